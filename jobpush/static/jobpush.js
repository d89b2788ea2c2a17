export * from "./jobpush-785DE277.js";
