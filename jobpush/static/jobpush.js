export * from "./jobpush-38866059.js";
