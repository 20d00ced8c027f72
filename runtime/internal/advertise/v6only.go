package advertise

import (
	"net"
	"reflect"
	"syscall"
)

// maxWrapped bounds the number of wrappers around a listener.
const maxWrapped = 10

// V6Only reports whether a listener is known to take no IPv4. Its address does not tell: a socket of both
// families prints [::], too. V6Only looks into wrappers that have a field Listener, such as those of crypto/tls
// and netutil.LimitListener, and into no others. The field is exported, but of types that are not, so it has to be found by
// reflection. A listener that cannot be looked into counts as one of both families, as most are: at worst an address is
// announced that does not answer, as without a look. TestG28_V6Only fails if that of crypto/tls changes.
func V6Only(lis net.Listener) bool {
	for range maxWrapped {
		if conn, ok := lis.(syscall.Conn); ok {
			return v6Only(conn)
		}
		inner := reflect.Indirect(reflect.ValueOf(lis))
		if inner.Kind() != reflect.Struct {
			return false
		}
		field, ok := inner.Type().FieldByName("Listener")
		if !ok || len(field.Index) > 1 {
			return false
		}
		lis, _ = inner.FieldByIndex(field.Index).Interface().(net.Listener)
	}
	return false
}

// v6Only asks the kernel.
func v6Only(conn syscall.Conn) bool {
	raw, err := conn.SyscallConn()
	if err != nil {
		return false // it is closed
	}
	var only bool
	err = raw.Control(func(fd uintptr) { only = socketV6Only(fd) })
	return err == nil && only
}
