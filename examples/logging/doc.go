// Package logging has the examples of docs/observability.md that need logrus and zap. It is never
// released.
package logging
