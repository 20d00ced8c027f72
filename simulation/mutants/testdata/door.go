// Command door is the program that the tests of mutants change.
package main

import "fmt"

var sizes = []int{1, 2, 4}

type door[T any] struct {
	open bool
	log  []T
}

func (d *door[T]) push(locked, stuck bool, who T) string {
	if n := len(d.log); locked || stuck && n < 9 {
		return "shut"
	}
	d.open = true
	d.log = append(d.log, who)
	switch {
	case len(d.log) > 1:
		return "again"
	default:
		return "open"
	}
}

func add(numbers ...int) (sum int) {
	for _, n := range numbers {
		sum += n
	}
	return sum
}

func main() {
	d := &door[string]{log: nil}
	fmt.Print(d.push(true, false, "a"), " ", d.push(false, true, "b"), " ", d.push(false, false, "c"), " ")
	fmt.Println(add(sizes...), add(len(d.log), 5))
}
