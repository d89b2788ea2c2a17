export * from "./jobpush-3D5C30E0.js";
