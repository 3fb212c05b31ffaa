/** An image reference, split into the three parts that are styled differently. */

export interface ImageName {
  /** The registry with a trailing slash, or an empty string. */
  readonly registry: string
  readonly repository: string
  /** The tag or digest, including its `:` or `@`; digests are shortened. Empty if unknown. */
  readonly tag: string
}

const UNKNOWN = '__pulling__'
export const UNKNOWN_REGISTRY = 'unknown'

export function isUnknown(imageRef: string): boolean {
  return imageRef === UNKNOWN
}

export function imageName(imageRef: string): ImageName {
  if (isUnknown(imageRef)) return { registry: '', repository: 'image not yet known', tag: '' }
  const slash = imageRef.indexOf('/')
  const first = slash < 0 ? '' : imageRef.slice(0, slash)
  // According to the reference grammar, the first part is a host if it contains a dot or a port, or if it is localhost.
  const isHost = first.includes('.') || first.includes(':') || first === 'localhost'
  const registry = isHost ? `${first}/` : ''
  const rest = imageRef.slice(registry.length)
  const at = rest.indexOf('@')
  const name = at < 0 ? rest : rest.slice(0, at)
  const digest = at < 0 ? '' : rest.slice(at)
  const colon = name.lastIndexOf(':')
  const repository = colon < 0 ? name : name.slice(0, colon)
  const tag = colon < 0 ? '' : name.slice(colon)
  return { registry, repository, tag: tag !== '' ? tag : shorten(digest) }
}

/** The reference that a node requests for an image name in a pod's spec: `docker.io/library/nginx:latest` for
 * `nginx`. */
export function fullReference(image: string): string {
  const { registry, repository, tag } = imageName(image)
  if (isUnknown(image) || repository === '') return image
  const path = registry !== '' || repository.includes('/') ? repository : `library/${repository}`
  const rest = tag === '' ? ':latest' : image.slice(registry.length + repository.length)
  return `${registry === '' ? 'docker.io/' : registry}${path}${rest}`
}

function shorten(digest: string): string {
  const colon = digest.indexOf(':')
  return colon < 0 ? digest : digest.slice(0, colon + 13)
}

export function registryOf(pull: {
  readonly imageRef: string
  readonly registry?: string | undefined
}): string {
  const { registry } = imageName(pull.imageRef)
  return registry === '' ? (pull.registry ?? UNKNOWN_REGISTRY) : registry.slice(0, -1)
}
