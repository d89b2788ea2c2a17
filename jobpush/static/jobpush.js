export * from "./jobpush-DD34E91A.js";
