package main

import "context"

// inTurns has peers take turns of a hundred within one process, that of the backends, by a role whose
// values are named by peer and metric.
func (b *bench) inTurns(ctx context.Context, role, c string, peers []string, metrics ...string) error {
	etcd, err := startEtcd(b.dir)
	if err != nil {
		return err
	}
	defer etcd.close()
	for round := range b.rounds {
		if err := ctx.Err(); err != nil {
			return err
		}
		p, err := spawn(params{Role: role, Endpoints: etcd.endpoints(), First: round})
		if err != nil {
			return err
		}
		values, err := p.values(patience)
		p.end()
		if err != nil {
			return err
		}
		for _, peer := range peers {
			own := make(map[string]float64)
			for _, name := range metrics {
				own[name] = values[peer+" "+name]
			}
			b.record(c, peer, round, own)
		}
		if err := etcd.clear(ctx); err != nil {
			return err
		}
	}
	return nil
}

// turns is what calls took that were made in turns.
type turns struct {
	wall, cpu, mallocs, bytes [][]float64 // µs, µs, number and KB of one, by call and round
}

// takeTurns makes each of calls n times in each of the rounds, which begin with another one each time.
func (c *child) takeTurns(rounds, n int, calls []func() error) (*turns, error) {
	t := &turns{}
	for round := range rounds {
		for i := range calls {
			i = (i + round + c.First) % len(calls)
			if err := t.take(i, n, calls[i]); err != nil {
				return nil, err
			}
		}
	}
	return t, nil
}

// take has call i made n times, and notes what one took.
func (t *turns) take(i, n int, call func() error) error {
	before := used()
	for range n {
		if err := call(); err != nil {
			return err
		}
	}
	after := used()
	each := func(to *[][]float64, total float64) {
		for len(*to) <= i {
			*to = append(*to, nil)
		}
		(*to)[i] = append((*to)[i], total/float64(n))
	}
	each(&t.wall, us(after.at.Sub(before.at)))
	each(&t.cpu, us(after.cpu-before.cpu))
	each(&t.mallocs, float64(after.mallocs-before.mallocs))
	each(&t.bytes, float64(after.allocated-before.allocated)/1e3)
	return nil
}
