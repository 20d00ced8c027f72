package main

import "testing"

// TestSettings_BoundsAnswers has no command, xds and register among them, take in all at once what others wrote to etcd.
func TestSettings_BoundsAnswers(t *testing.T) {
	s := settings{dialTimeout: soon, commandTimeout: soon}
	if cfg, err := s.config(t.Context()); err != nil || cfg.MaxCallRecvMsgSize != 8<<20 {
		t.Errorf("an answer of etcd may have %d bytes, %v", cfg.MaxCallRecvMsgSize, err)
	}
}
