// Package seats is a small service of a user's, so that its test has something to
// test: it sells the seats of a train. Who gets the last one is not its affair, but
// that of the system that it submits to.
package seats

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/hierarchy-bus/hierarchy/pkg/client"
	"github.com/hierarchy-bus/hierarchy/pkg/op"
	"github.com/hierarchy-bus/hierarchy/pkg/worker"
)

// ErrSoldOut: there is no seat left.
var ErrSoldOut = errors.New("sold out")

// Book are the params of the operation type "book_seat".
type Book struct {
	Passenger string `json:"passenger"`
}

// Kind is the name of the type.
func (Book) Kind() string { return "book_seat" }

// BookSchema is what an operator registers for it.
const BookSchema = `{"type": "object", "required": ["passenger"], "properties": {"passenger": {"type": "string", "minLength": 1}}}`

// Handle gives a passenger a seat. The same passenger asking twice has one.
func Handle(_ context.Context, job *worker.Job[Book]) (worker.Effect, error) {
	if job.Entity == nil {
		return worker.Effect{}, worker.Terminal(fmt.Errorf("there is no train %s", job.Operation.Target))
	}
	var free int
	taken := map[string]int{}
	if _, err := job.Entity.Get("free", &free); err != nil {
		return worker.Effect{}, err
	}
	if _, err := job.Entity.Get("seats", &taken); err != nil {
		return worker.Effect{}, err
	}
	if _, has := taken[job.Args.Passenger]; has {
		return worker.Effect{}, nil // it changes nothing, and succeeds
	}
	if free == 0 {
		return worker.Effect{}, worker.Terminal(worker.WithCode("sold_out", ErrSoldOut))
	}
	taken[job.Args.Passenger] = len(taken) + 1
	return worker.Set("free", free-1).Set("seats", taken), nil
}

// Office sells seats.
type Office struct {
	Client *client.Client
}

// Book books a seat and returns its number. Frequent travellers come first where
// several ask at the same moment.
func (o *Office) Book(ctx context.Context, train, passenger string, frequent bool) (seat int, err error) {
	booking := op.Operation{
		Type: "book_seat", Target: train, OnConflict: op.OnConflictQueue, Priority: op.Normal,
		Params: client.Params(Book{Passenger: passenger}),
	}
	if frequent {
		booking.Priority = op.High
	}
	out, err := o.Client.Do(ctx, booking)
	if out.Error != nil && out.Error.Code == "sold_out" {
		return 0, ErrSoldOut
	}
	if err != nil {
		return 0, err
	}
	seats, err := o.Client.Get(ctx, "@"+train+".seats")
	if err != nil {
		return 0, err
	}
	var taken map[string]int
	if err := json.Unmarshal(seats.Raw, &taken); err != nil {
		return 0, err
	}
	return taken[passenger], nil
}
