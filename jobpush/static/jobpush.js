export * from "./jobpush-P4ZC3SJM.js";
