package sqlstore

import "context"

// Clean removes all expired rows and reports the sessions that expired.
func (s *Store) Clean(ctx context.Context) error { return s.clean(ctx) }
