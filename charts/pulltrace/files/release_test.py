"""Check that a release works (`helm test` runs this program). Within a minute, the server must be ready and, if agents
are installed, a node must be reporting.
"""

import json
import ssl
import sys
import time
from urllib.error import URLError
from urllib.request import urlopen

url, expected, *ca_file = sys.argv[1:]
trust = ssl.create_default_context(cafile=ca_file[0] if ca_file else None)
trust.verify_flags &= ~ssl.VERIFY_X509_STRICT  # as in the agent, because many private CAs lack a required extension


def reporting():
    with urlopen(f"{url}/readyz", timeout=5, context=trust):
        pass
    with urlopen(f"{url}/api/v1/nodes", timeout=5, context=trust) as response:
        return [node["name"] for node in json.load(response)["nodes"] if node["state"] == "reporting"]


deadline = time.monotonic() + 60
problem = "no node has reported"
while time.monotonic() < deadline:
    try:
        nodes = reporting()
        if nodes or expected == "server-only":
            print(f"ready; nodes reporting: {len(nodes)}")
            sys.exit(0)
    except (URLError, OSError) as error:
        problem = str(error)
    time.sleep(1)
sys.exit(f"{url}: {problem}")
