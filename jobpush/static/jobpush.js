export * from "./jobpush-04B40908.js";
