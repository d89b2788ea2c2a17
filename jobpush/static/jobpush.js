export * from "./jobpush-E39D6A50.js";
