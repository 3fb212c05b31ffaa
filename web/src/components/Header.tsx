import { classes } from '../classes'
import { withoutPullFilters } from '../model/query'
import { SUMMARIES, VIEWS, type View } from '../url/urlState'
import { showView, useUrl } from '../url/useUrl'
import { Agents } from './Agents'
import { ConnectionBadge } from './ConnectionBadge'
import styles from './Header.module.css'
import { Help } from './Help'
import { Mark } from './Icon'
import { ThemeButton } from './ThemeButton'

const TITLES: Readonly<Record<View, string>> = {
  pulls: 'Pulls',
  pods: 'Pods',
  images: 'Images',
  nodes: 'Nodes',
}

export function Header() {
  const { view, query } = useUrl()
  return (
    <header className={styles.header}>
      <h1 className={styles.brand}>
        <Mark />
        <span className={styles.word}>Pulltrace</span>
      </h1>
      <nav className={styles.views} aria-label="Views">
        {VIEWS.map(name => (
          <a
            key={name}
            href={`?view=${name}`}
            className={classes(styles.view, name === view && styles.current)}
            aria-current={name === view ? 'page' : undefined}
            onClick={event => {
              if (event.metaKey || event.ctrlKey || event.shiftKey) return
              event.preventDefault()
              showView(name, SUMMARIES.includes(name) ? withoutPullFilters(query) : query)
            }}
          >
            {TITLES[name]}
          </a>
        ))}
      </nav>
      <div className={styles.state}>
        <Agents />
        <ConnectionBadge />
        <Help />
        <ThemeButton />
      </div>
    </header>
  )
}
