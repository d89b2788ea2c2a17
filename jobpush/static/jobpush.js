export * from "./jobpush-F8409A47.js";
