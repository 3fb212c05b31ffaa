import { readdirSync, readFileSync } from 'node:fs'
import { join, relative } from 'node:path'
import react from '@vitejs/plugin-react'
import { minify } from 'terser'
import type { Plugin } from 'vite'
import { defineConfig } from 'vitest/config'
import { smallReact } from './scripts/smallReact.ts'

/** Returns the server version for which the page is built. The page contains this version, so an open tab can detect
 * that the server has been updated. */
function version(): string {
  const source = readFileSync(new URL('../pulltrace/__init__.py', import.meta.url), 'utf8')
  const found = /^__version__ = "([^"]+)"/m.exec(source)?.[1]
  if (found === undefined) throw new Error('pulltrace/__init__.py has no __version__')
  return found
}

const SOURCES = join(import.meta.dirname, 'src')

/** All names defined in CSS modules, each as `file name`. */
const STYLE_NAMES = readdirSync(SOURCES, { recursive: true })
  .map(String)
  .filter(file => file.endsWith('.module.css'))
  .sort()
  .flatMap(file => {
    const names = readFileSync(join(SOURCES, file), 'utf8').matchAll(/(?:\.|@keyframes )([a-z]\w*)/gi)
    return [...new Set(Array.from(names, ([, name]) => `${file} ${name}`))]
  })

/** Returns a short name for a class in a CSS module, because each name is sent twice: in the script and in the style
 * sheet. */
function className(name: string, file: string): string {
  const at = STYLE_NAMES.indexOf(`${relative(SOURCES, file)} ${name}`)
  if (at < 0) throw new Error(`${file}: ${name} is not found`)
  return `_${at.toString(36)}`
}

const START = 'src/start.tsx'

/** Adds the second script to the page. If index.html listed it, Vite would merge it into the first script, which has
 * to run earlier. */
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

/** Minifies the scripts a second time with Terser, which saves another kilobyte. */
const minifyAgain = (): Plugin => ({
  name: 'minify-again',
  apply: 'build',
  generateBundle: async (_, bundle) => {
    for (const file of Object.values(bundle)) {
      if (file.type !== 'chunk') continue
      const { code } = await minify(file.code, {
        module: true,
        ecma: 2020,
        compress: {
          passes: 3,
          pure_getters: true,
          unsafe_arrows: true,
          keep_fargs: false,
          lhs_constants: false,
          reduce_funcs: false,
          sequences: false,
        },
      })
      file.code = code ?? file.code
    }
  },
})

export default defineConfig(({ command }) => ({
  // With a relative base, the page works under any path prefix of an ingress.
  base: './',
  plugins: [react(), secondScript, smallReact, minifyAgain()],
  worker: { plugins: () => [minifyAgain()] },
  define: {
    __PULLTRACE_VERSION__: JSON.stringify(process.env.PULLTRACE_BUILD_VERSION ?? version()),
    // Removes React's support for its developer tools.
    __REACT_DEVTOOLS_GLOBAL_HOOK__: 'undefined',
  },
  css: { modules: command === 'build' ? { generateScopedName: className } : {} },
  build: {
    outDir: process.env.PULLTRACE_BUILD_DIR ?? '../pulltrace/server/static',
    emptyOutDir: true,
    target: 'es2022',
    // The tokens use light-dark(); compiling it for older browsers would double the size of the style sheet.
    cssTarget: ['chrome123', 'firefox120', 'safari17.5'],
    assetsInlineLimit: 0,
    // index.html loads the style sheet, but not the second script.
    cssCodeSplit: false,
    modulePreload: { polyfill: false },
    rolldownOptions: { input: { index: 'index.html', start: START } },
  },
  server: { proxy: { '/api': process.env.PULLTRACE_DEV_SERVER ?? 'http://127.0.0.1:8080' } },
  // Only component tests enable happy-dom, because all other tests start ten times faster without it.
  test: { environment: 'node', restoreMocks: true, testTimeout: 60_000 },
}))
