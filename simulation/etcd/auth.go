package etcd

import (
	"errors"
	"maps"
	"reflect"

	"go.etcd.io/etcd/api/v3/authpb"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/server/v3/auth"
)

// User is a user of etcd with rights. While auth is on, there must be a user
// root, who has all rights.
type User struct {
	Name, Password string
	Rights         []Right
}

// Right is a permission of a user on the keys in [From, To).
type Right struct {
	From, To    string
	Read, Write bool
}

// Protect adds users, sets the rights that differ from those of the last call,
// and turns auth on. It does not change passwords or revoke rights to ranges
// that are no longer listed. It makes no needless changes, because each change
// of a right makes etcd reject the requests under way.
func (c *Cluster) Protect(users ...User) error {
	return c.operate("protect", func(a admin) error {
		for _, u := range users {
			if err := c.setUser(a, u); err != nil {
				return err
			}
		}

		if a.AuthStore().IsAuthEnabled() {
			return nil
		}

		return errOf(a.AuthEnable(a.root(), &pb.AuthEnableRequest{}))
	})
}

// setUser sets the rights of a user. It first adds the user, and a role of the
// same name that holds the rights, if they are missing.
func (c *Cluster) setUser(a admin, u User) error {
	c.mu.Lock()
	same := reflect.DeepEqual(c.users[u.Name], u)
	c.mu.Unlock()

	if same {
		return nil
	}

	user := &pb.AuthUserAddRequest{
		Name:     u.Name,
		Password: u.Password,
		Options:  &authpb.UserAddOptions{},
	}

	errs := []error{
		except(errOf(a.UserAdd(a.root(), user)), auth.ErrUserAlreadyExist),
		except(errOf(a.RoleAdd(a.root(), &pb.AuthRoleAddRequest{Name: u.Name})),
			auth.ErrRoleAlreadyExist),
		errOf(a.UserGrantRole(a.root(),
			&pb.AuthUserGrantRoleRequest{User: u.Name, Role: u.Name})),
	}
	for _, r := range u.Rights {
		errs = append(errs, a.setRight(u.Name, r))
	}

	if err := errors.Join(errs...); err != nil {
		return err
	}

	c.mu.Lock()
	defer c.mu.Unlock()

	c.users[u.Name] = u

	return nil
}

// setRight grants a right to a role, or revokes it.
func (a admin) setRight(role string, r Right) error {
	p := &authpb.Permission{Key: []byte(r.From), RangeEnd: []byte(r.To)}

	switch {
	case r.Read && r.Write:
		p.PermType = authpb.READWRITE
	case r.Read:
		p.PermType = authpb.READ
	case r.Write:
		p.PermType = authpb.WRITE

	default:
		revoke := &pb.AuthRoleRevokePermissionRequest{
			Role:     role,
			Key:      p.Key,
			RangeEnd: p.RangeEnd,
		}

		return except(errOf(a.RoleRevokePermission(a.root(), revoke)),
			auth.ErrPermissionNotGranted)
	}

	return errOf(a.RoleGrantPermission(a.root(),
		&pb.AuthRoleGrantPermissionRequest{Name: role, Perm: p}))
}

// ExpireTokens makes all tokens invalid. It sets the password of each user to
// the same value again, which ends the user's tokens.
func (c *Cluster) ExpireTokens() error {
	c.mu.Lock()
	users := maps.Clone(c.users)
	c.mu.Unlock()

	return c.operate("expire tokens", func(a admin) error {
		for _, u := range users {
			r := &pb.AuthUserChangePasswordRequest{Name: u.Name, Password: u.Password}
			if err := errOf(a.UserChangePassword(a.root(), r)); err != nil {
				return err
			}
		}

		return nil
	})
}
