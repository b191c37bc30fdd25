"""What is on the wire and in the buckets, pure: names, ids, headers, bodies, and how they are read and written.

The one place for each of them, so that a name or a field is changed in one file. Reading never trusts: bytes are
anybody's, and end as a value or as `InvalidArgument`, never as another exception. Bodies of a newer daemon are read:
unknown fields of ours are ignored, while an unknown field of a schedule, which people type, is an error.

`names`, `keys`, `ids`, `addresses` · `instants` · `headers`, `task`, `tasks` · `schedule` and its parts
(`schedule_json`, `schedule_values`, `schedule_unbuilt`) · `timeline` · `record`, `status` · `reports`,
`advisories` · `events` · `selectors` · `api`.
"""

from __future__ import annotations
