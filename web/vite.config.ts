import { readdirSync, readFileSync } from 'node:fs'
import { join, relative } from 'node:path'
import react from '@vitejs/plugin-react'
import { minify } from 'terser'
import type { Plugin } from 'vite'
import { defineConfig } from 'vitest/config'

/** The page contains the version of the server that it is built for, so that an open tab notices if it is outdated. */
function version(): string {
  const source = readFileSync(new URL('../pulltrace/__init__.py', import.meta.url), 'utf8')
  const found = /^__version__ = "([^"]+)"/m.exec(source)?.[1]
  if (found === undefined) throw new Error('pulltrace/__init__.py has no __version__')
  return found
}

const STYLES = readdirSync(new URL('src', import.meta.url), { recursive: true })
  .map(String)
  .filter(name => name.endsWith('.module.css'))
  .sort()

/** A short name for a class of a CSS module, because each name is sent twice: in the script and in the style
 * sheet. */
function className(name: string, file: string): string {
  const number = STYLES.indexOf(relative(join(import.meta.dirname, 'src'), file))
  return `${name}-${number.toString(36)}`
}

const START = 'src/start.tsx'

/** Adds the second script to the page. If this script were in index.html, Vite would join it with the first
 * script, which has to run earlier. */
const secondScript: Plugin = {
  name: 'second-script',
  transformIndexHtml: {
    order: 'post',
    handler: (_, { bundle = {} }) => {
      const built = Object.values(bundle).find(file => file.type === 'chunk' && file.name === 'start')
      const attrs = { type: 'module', crossorigin: true, src: `./${built?.fileName ?? START}` }
      const fonts = Object.keys(bundle).filter(name => name.endsWith('.woff2'))
      return [
        { tag: 'script', attrs, injectTo: 'head' },
        ...fonts.map(name => ({
          tag: 'link',
          attrs: { rel: 'preload', as: 'font', crossorigin: true, href: `./${name}` },
          injectTo: 'head' as const,
        })),
      ]
    },
  },
}

/** Replaces the half of react-dom that the page does not use. */
const smallReactDom: Plugin = {
  name: 'small-react-dom',
  apply: 'build',
  config: () => ({
    resolve: { alias: [{ find: /^react-dom$/, replacement: join(import.meta.dirname, 'src/reactDom.cjs') }] },
  }),
}

/** Minifies the scripts a second time, because Terser's shorter code saves another kilobyte. */
const minifyAgain = (): Plugin => ({
  name: 'minify-again',
  apply: 'build',
  generateBundle: async (_, bundle) => {
    for (const file of Object.values(bundle)) {
      if (file.type !== 'chunk') continue
      const { code } = await minify(file.code, { module: true, ecma: 2020, compress: { passes: 3 } })
      file.code = code ?? file.code
    }
  },
})

export default defineConfig({
  // Relative, so that the page works under any path prefix of an ingress.
  base: './',
  plugins: [react(), secondScript, smallReactDom, minifyAgain()],
  worker: { plugins: () => [minifyAgain()] },
  define: {
    __PULLTRACE_VERSION__: JSON.stringify(process.env.PULLTRACE_BUILD_VERSION ?? version()),
    // Removes React's code for its developer tools from the script.
    __REACT_DEVTOOLS_GLOBAL_HOOK__: 'undefined',
  },
  css: { modules: { generateScopedName: className } },
  build: {
    outDir: process.env.PULLTRACE_BUILD_DIR ?? '../pulltrace/server/static',
    emptyOutDir: true,
    target: 'es2022',
    // The tokens use light-dark(); compiling it for older browsers would double the size of the style sheet.
    cssTarget: ['chrome123', 'firefox120', 'safari17.5'],
    assetsInlineLimit: 0,
    // The style sheet belongs to index.html, not to the second script.
    cssCodeSplit: false,
    modulePreload: { polyfill: false },
    rolldownOptions: { input: { index: 'index.html', start: START } },
  },
  server: { proxy: { '/api': process.env.PULLTRACE_DEV_SERVER ?? 'http://127.0.0.1:8080' } },
  // Tests of components enable happy-dom themselves, because other tests start ten times faster without it.
  test: { environment: 'node', restoreMocks: true, testTimeout: 5000 },
})
