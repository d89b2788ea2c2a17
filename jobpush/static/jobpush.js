export * from "./jobpush-EBDA4794.js";
