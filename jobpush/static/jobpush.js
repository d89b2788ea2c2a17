export * from "./jobpush-B355B0AA.js";
