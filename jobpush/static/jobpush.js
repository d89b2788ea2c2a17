export * from "./jobpush-0E4CA3D8.js";
