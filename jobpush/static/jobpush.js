export * from "./jobpush-036F5D96.js";
