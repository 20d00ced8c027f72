package main

import "testing"

// TestSettings_BoundsAnswers checks that every command bounds the size of etcd's answers.
func TestSettings_BoundsAnswers(t *testing.T) {
	s := settings{dialTimeout: soon, commandTimeout: soon}
	if cfg, err := s.config(t.Context()); err != nil || cfg.MaxCallRecvMsgSize != 8<<20 {
		t.Errorf("an answer of etcd may have %d bytes, %v", cfg.MaxCallRecvMsgSize, err)
	}
}
