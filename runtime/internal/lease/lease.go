// Package lease keeps a process's desired keys in etcd, on one lease that it renews. It puts lost or changed keys back.
//
// What decides is package reconcile. This package makes the calls, and wakes waiters.
package lease

import (
	"errors"
	"time"

	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/lease/reconcile"
)

// CloseTimeout bounds the Close methods, in addition to their contexts.
const CloseTimeout = 5 * time.Second

var (
	// ErrClosed is the error of a session's methods after its Close.
	ErrClosed = errors.New("the registry is closed")
	// ErrDropped is the error of an entry's methods after its Drop or Close.
	ErrDropped = reconcile.ErrDropped
	// ErrSuperseded is the error of a wait for a SetPaused once a later SetPaused has requested the opposite.
	ErrSuperseded = errors.New("superseded by a later call")
)

// Item is one key of an entry and its value.
type Item = reconcile.Item

// Status is the state of an entry at one moment.
type Status = reconcile.Status

// State is the state of an entry.
type State = reconcile.State

// The states of an entry.
const (
	Initial     = reconcile.Initial
	Registering = reconcile.Registering
	Registered  = reconcile.Registered
	Lost        = reconcile.Lost
	Conflict    = reconcile.Conflict
	Paused      = reconcile.Paused
	Closed      = reconcile.Closed
)
