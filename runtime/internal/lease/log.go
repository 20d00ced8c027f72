package lease

import (
	"context"
	"fmt"
	"log/slog"
)

// report logs and counts the changes of state since the last report.
func (s *Session) report() {
	s.reporting.Lock()
	defer s.reporting.Unlock()
	s.mu.Lock()
	changes, warnings := s.core.changes, s.core.warnings
	s.core.changes, s.core.warnings = nil, nil
	s.mu.Unlock()
	for _, c := range changes {
		if s.opts.Changed != nil {
			s.opts.Changed(c.key, c.from, c.to)
		}
		if c.from != Initial {
			s.logChange(c)
		}
	}
	for _, c := range warnings {
		s.logWarning(c)
	}
}

func (s *Session) logChange(c change) {
	level := slog.LevelInfo
	attrs := []slog.Attr{slog.String("key", c.key), slog.String("state", c.to.String()), slog.String("was", c.from.String())}
	if c.lease != 0 {
		attrs = append(attrs, slog.String("lease", fmt.Sprintf("%x", int64(c.lease))))
	}
	if c.err != nil {
		attrs = append(attrs, slog.Any("error", c.err))
	}
	if c.to == Lost || c.to == Conflict {
		level = slog.LevelWarn
	}
	s.opts.Logger.LogAttrs(context.Background(), level, "etcd registration "+c.to.String(), attrs...)
}

func (s *Session) logWarning(c warning) {
	attrs := []slog.Attr{slog.String("key", c.key), slog.Any("error", c.err)}
	if c.others > 0 {
		attrs = append(attrs, slog.Int("others", c.others))
	}
	s.opts.Logger.LogAttrs(context.Background(), slog.LevelWarn, "etcd registration failing", attrs...)
}
