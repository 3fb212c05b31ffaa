/** Measure the built page, gzipped at level 9 as the server sends it, and fail if it exceeds the budget. Fonts are
 * not counted. */
import { readdirSync, readFileSync } from 'node:fs'
import { gzipSync } from 'node:zlib'

const BUDGET = { js: 110_000, css: 20_000 }
const built = new URL('../../pulltrace/server/static/', import.meta.url)

const files = readdirSync(built, { recursive: true }).map(String)
let over = false
for (const [kind, most] of Object.entries(BUDGET)) {
  const sizes = files
    .filter(name => name.endsWith(`.${kind}`))
    .map(name => gzipSync(readFileSync(new URL(name, built)), { level: 9 }).length)
  const sum = sizes.reduce((a, b) => a + b, 0)
  if (sizes.length === 0 || sum > most) over = true
  console.log(`${kind}: ${sum} of ${most} bytes gzipped, in ${sizes.length} files`)
}
if (over) {
  console.error('The page exceeds its budget or has not been built.')
  process.exitCode = 1
}
