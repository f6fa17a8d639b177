import { svelte, vitePreprocess } from '@sveltejs/vite-plugin-svelte'
import { defineConfig } from 'vitest/config'

// HOLDFAST_SOCKET is a host's socket that the development server passes calls of
// the API on to, as the host's own server does in the product.
const socketPath = process.env.HOLDFAST_SOCKET

export default defineConfig({
  base: '/ui/',
  plugins: [svelte({ preprocess: vitePreprocess() })],
  build: {
    outDir: '../build/ui-dist',
    emptyOutDir: true,
    target: 'es2022',
    modulePreload: { polyfill: false }, // it would be an inline script
    assetsInlineLimit: 0,
    reportCompressedSize: false,
  },
  server: {
    host: '127.0.0.1',
    proxy: socketPath ? { '/v1': { target: { socketPath, host: 'localhost', port: 80, protocol: 'http:' } as never, ws: true } } : {},
  },
  test: { include: ['src/**/*.test.ts'] },
})
