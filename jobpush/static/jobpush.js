export * from "./jobpush-F0D5084D.js";
