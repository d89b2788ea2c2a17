export * from "./jobpush-F8757FE4.js";
