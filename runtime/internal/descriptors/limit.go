// Package descriptors bounds the file descriptors that a client may spend on the connections to one service, so that
// whoever writes the service's keys cannot take the ones of the process's other services.
package descriptors

// unlimited stands for a limit that does not exist or cannot be read.
const unlimited = 1 << 20

// OfOneService returns how many of limit descriptors one service may take: a quarter, but at least 16.
func OfOneService(limit int) int { return max(16, limit/4) }
