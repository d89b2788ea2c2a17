export * from "./jobpush-3650E153.js";
