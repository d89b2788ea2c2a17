export * from "./jobpush-3D3B46C5.js";
