//go:build !linux

package listener

type reader struct{}
