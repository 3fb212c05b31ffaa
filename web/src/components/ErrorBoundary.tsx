import { Component, type ReactNode } from 'react'
import shared from '../styles/shared.module.css'
import { Notice } from './Notice'

interface Props {
  readonly children: ReactNode
}

interface State {
  readonly error: unknown
}

/** Shows the error and two ways to continue, instead of a blank page. */
export class ErrorBoundary extends Component<Props, State> {
  override state: State = { error: undefined }

  static getDerivedStateFromError(error: unknown): State {
    return { error: error ?? new Error('unknown') }
  }

  override render(): ReactNode {
    const { error } = this.state
    if (error === undefined) return this.props.children
    const words = error instanceof Error ? `${error.name}: ${error.message}` : String(error)
    return (
      <main className={shared.whole}>
        <Notice icon="failed" title="This page has an error">
          <p>The server and its agents are not affected. Please report this with the address of the page:</p>
          <code>{words}</code>
          <p className={shared.bar}>
            <a className={shared.button} href={window.location.pathname}>
              Open the start page
            </a>
            <button type="button" onClick={() => window.location.reload()}>
              Reload
            </button>
          </p>
        </Notice>
      </main>
    )
  }
}
