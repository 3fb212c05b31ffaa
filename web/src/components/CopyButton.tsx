import { useEffect, useState } from 'react'
import styles from './CopyButton.module.css'
import { Icon } from './Icon'

interface Props {
  readonly text: string
  readonly children: string
}

const CONFIRM_MS = 1600

export function CopyButton({ text, children }: Props) {
  const [copied, setCopied] = useState(false)
  useEffect(() => {
    if (!copied) return
    const timer = setTimeout(() => setCopied(false), CONFIRM_MS)
    return () => clearTimeout(timer)
  }, [copied])
  return (
    <button
      type="button"
      className={styles.copy}
      title={text}
      onClick={() => void copy(text).then(setCopied)}
    >
      <Icon name={copied ? 'done' : 'copy'} size={13} />
      <span aria-live="polite">{copied ? 'copied' : children}</span>
    </button>
  )
}

/** Copies the text even where the clipboard API is missing, for example on pages served without TLS (a port-forward to
 * another host, an air-gapped cluster). */
async function copy(text: string): Promise<boolean> {
  try {
    await navigator.clipboard.writeText(text)
    return true
  } catch {
    const focused = document.activeElement
    const area = document.createElement('textarea')
    area.value = text
    area.style.position = 'fixed'
    document.body.append(area)
    area.select()
    const done = document.execCommand('copy')
    area.remove()
    if (focused instanceof HTMLElement) focused.focus()
    return done
  }
}
