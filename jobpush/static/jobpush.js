export * from "./jobpush-4153E1A0.js";
