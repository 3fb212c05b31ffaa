import type { CSSProperties } from 'react'
import { imageName, isUnknown } from '../model/images'
import styles from './ImageLabel.module.css'

export const GUESSED = 'the tag is a guess: more than one matches the node’s reports'

interface Props {
  readonly imageRef: string
  /** Whether the tag is a guess. */
  readonly guessed?: boolean
}

export function ImageLabel({ imageRef, guessed = false }: Props) {
  const { registry, repository, tag } = imageName(imageRef)
  const shownTag = guessed && tag !== '' ? `${tag}?` : tag
  const widths = {
    '--repository': `${repository.length}ch`,
    '--tag': `${shownTag.length}ch`,
  } as CSSProperties
  const title = guessed ? `${imageRef} (${GUESSED})` : imageRef
  return (
    <span className={styles.image} title={isUnknown(imageRef) ? undefined : title} dir="ltr" style={widths}>
      <bdi className={styles.registry}>{registry}</bdi>
      <bdi className={isUnknown(imageRef) ? styles.unknown : styles.repository}>{repository}</bdi>
      <bdi className={styles.tag}>{shownTag}</bdi>
    </span>
  )
}
