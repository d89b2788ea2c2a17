export * from "./jobpush-74W5DOAX.js";
