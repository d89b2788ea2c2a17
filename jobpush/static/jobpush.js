export * from "./jobpush-E72B144F.js";
