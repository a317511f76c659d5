package bus

import (
	"context"
	"fmt"
)

// WhatIfs has f called, from one goroutine, with every question what would become
// of an operation of a partition. reply answers it, from any goroutine; it may be
// left out. stop ends the calls.
func (b *Bus) WhatIfs(partition int, f func(data []byte, reply func([]byte))) (stop func(), err error) {
	stop, err = b.listen(WhatIfSubject(partition), f)
	if err != nil {
		return nil, fmt.Errorf("bus: what-if: %w", err)
	}
	return stop, nil
}

// WhatIf asks the owner of a partition what would become of an operation, which
// is its JSON with the target in it. The answer is an op.Forecast, or an op.Error
// for an operation that would be refused before it is looked at. Nothing is
// stored. The errors of the client come through as in [Bus.Report].
func (b *Bus) WhatIf(ctx context.Context, partition int, operation []byte) ([]byte, error) {
	m, err := b.nc.RequestWithContext(ctx, WhatIfSubject(partition), operation)
	if err != nil {
		return nil, err
	}
	return m.Data, nil
}
