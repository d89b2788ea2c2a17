export * from "./jobpush-CDA55841.js";
