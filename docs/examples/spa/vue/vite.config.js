import vue from "@vitejs/plugin-vue";

const isCustomElement = (tag) => tag.startsWith("jobpush-");

export default {
  base: "./",
  plugins: [vue({ template: { compilerOptions: { isCustomElement } } })],
  server: { host: "127.0.0.1", proxy: { "/api": "http://127.0.0.1:8000" } },
};
