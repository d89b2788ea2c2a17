export * from "./jobpush-086E39B9.js";
