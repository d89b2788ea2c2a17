import vue from "@vitejs/plugin-vue";

const isCustomElement = (tag) => tag.startsWith("jobpush-");

export default { base: "./", plugins: [vue({ template: { compilerOptions: { isCustomElement } } })] };
