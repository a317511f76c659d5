package resolver

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"strconv"

	"github.com/hierarchy-bus/hierarchy/internal/arbiter"
	"github.com/hierarchy-bus/hierarchy/internal/bus"
	"github.com/hierarchy-bus/hierarchy/pkg/op"
)

// takeCancel turns a cancel of one operation, or of all of a target, into an
// input.
func (p *partition) takeCancel(g *gathered, m bus.IntakeMsg) {
	var body struct {
		OpID    string `json:"op_id"`
		All     bool   `json:"all"`
		Cascade *bool  `json:"cascade"`
	}
	place := op.Place{Seq: m.Seq}
	var bad *op.Error
	switch err := strict(m.Data, &body); {
	case err != nil:
		bad = op.Errorf(op.CodeBadJSON, "", "a cancel is an object with op_id, or with all, and perhaps cascade: %.200s", err.Error())
	case body.All == (body.OpID != ""):
		bad = op.Errorf(op.CodeMissingField, "op_id", "a cancel names an op_id, or says all: true")
	case !body.All && !op.Token(body.OpID):
		bad = op.Errorf(op.CodeBadID, "op_id", "op_id %.80q is not a token", body.OpID)
	case !op.Token(m.Key):
		bad = op.Errorf(op.CodeBadID, "target_entity_id", "the subject names the target %.80q, which is not an id", m.Key)
	}
	if bad != nil {
		p.takeInvalid(g, m, place, "", bad)
		return
	}
	g.add(arbiter.Input{Cancel: &arbiter.Cancel{
		Place: place, Target: m.Key, OpID: body.OpID, All: body.All, Alone: body.Cascade != nil && !*body.Cascade,
	}}, kinBytes)
}

// takeControl turns what is asked of the whole partition into an input.
func (p *partition) takeControl(g *gathered, m bus.IntakeMsg) {
	var body bus.Control
	place := op.Place{Seq: m.Seq}
	var bad *op.Error
	switch err := strict(m.Data, &body); {
	case err != nil:
		bad = op.Errorf(op.CodeBadJSON, "", "a control message is an object with ancestors, or with submitter and perhaps cascade: %.200s", err.Error())
	case (len(body.Ancestors) > 0) == (body.Submitter != ""):
		bad = op.Errorf(op.CodeMissingField, "submitter", "a control message names ancestors or a submitter")
	case len(body.Ancestors) > bus.MaxAncestors:
		bad = op.Errorf(op.CodeBadArray, "ancestors", "there are more than %d ancestors", bus.MaxAncestors)
	case len(body.Submitter) > op.MaxString:
		bad = op.Errorf(op.CodeStringTooLong, "submitter", "the submitter has %d bytes, the limit is %d", len(body.Submitter), op.MaxString)
	}
	for i, id := range body.Ancestors {
		if bad == nil && !op.Token(id) {
			bad = op.Errorf(op.CodeBadID, "ancestors["+strconv.Itoa(i)+"]", "%.80q is not a token", id)
		}
	}
	if bad != nil {
		p.takeInvalid(g, m, place, "", bad)
		return
	}
	g.add(arbiter.Input{Cancel: &arbiter.Cancel{
		Place: place, Ancestors: body.Ancestors, Submitter: body.Submitter, Alone: body.Cascade != nil && !*body.Cascade,
	}}, kinBytes+len(m.Data))
}

// strict reads one JSON object without unknown members and with nothing after it.
func strict(data []byte, into any) error {
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	if err := dec.Decode(into); err != nil {
		return err
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return errors.New("there is something after the object")
	}
	return nil
}
