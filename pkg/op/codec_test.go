package op_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/hierarchy-bus/hierarchy/pkg/op"
)

const full = `{
  "schema": "ops.v1.operation", "op_id": "018f-a", "op_type": "modify_field", "target_entity_id": "door",
  "params": {"field_name": "a \"b\" \\", "new_value": [1, 2.50, {"x": null}]},
  "priority": "high", "parent_op_id": "p1", "source_entity_id": "lamp", "max_retries": 7, "on_conflict": "queue",
  "preemptible": true, "deadline": "90s", "expected_version": 3, "created_at": "yesterday", "submitter": "J\u00fcrgen <j@x>",
  "labels": {"team": "a&b", "\u0061lso": "\ud83d\ude00"}
}`

func ptr[T any](v T) *T { return &v }

func one(t *testing.T, body, target string) op.Operation {
	t.Helper()
	ops, err := op.Decode([]byte(body), target, op.BuiltinTypes())
	if err != nil {
		t.Fatalf("Decode(%s): %v", body, err)
	}
	if len(ops) != 1 {
		t.Fatalf("Decode(%s): %d operations, want 1", body, len(ops))
	}
	return ops[0]
}

func TestDecodeReadsEveryField(t *testing.T) {
	got := one(t, full, "door")
	want := op.Operation{
		ID: "018f-a", Type: op.TypeModifyField, Target: "door",
		Params:   json.RawMessage(`{"field_name":"a \"b\" \\","new_value":[1,2.50,{"x":null}]}`),
		Priority: op.High, Parent: "p1", Source: "lamp", MaxRetries: ptr(7), OnConflict: op.OnConflictQueue,
		Preemptible: true, Deadline: &op.Deadline{After: 90 * time.Second}, ExpectedVersion: ptr(int64(3)),
		CreatedAt: json.RawMessage(`"yesterday"`), Submitter: "Jürgen <j@x>",
		Labels: map[string]string{"team": "a&b", "also": "😀"},
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("(-want +got)\n%s", d)
	}
}

func TestDecodeFillsDefaults(t *testing.T) {
	got := one(t, `{"op_type":"version_entity"}`, "door")
	want := op.Operation{
		Type: op.TypeVersion, Target: "door", Priority: op.Normal, MaxRetries: ptr(3), OnConflict: op.OnConflictReject,
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("plain: (-want +got)\n%s", d)
	}
	got = one(t, `{"op_type":"detach_entity","target_entity_id":"door"}`, "")
	if got.Priority != op.Critical || got.Retries() != 20 {
		t.Errorf("structural: priority %s and %d retries, want CRITICAL and 20", got.Priority, got.Retries())
	}
}

func TestDecodeSharesNoMemoryWithTheBody(t *testing.T) {
	body := []byte(`{"op_id":"a","op_type":"version_entity","target_entity_id":"door","params":{"k":"v"},"labels":{"k":"v"},"created_at":"now"}`)
	ops, err := op.Decode(body, "", op.BuiltinTypes())
	if err != nil {
		t.Fatal(err)
	}
	before, _ := op.Encode(&ops[0])
	for i := range body {
		body[i] = 'x'
	}
	after, _ := op.Encode(&ops[0])
	if !bytes.Equal(before, after) {
		t.Errorf("the operation changed with the body: %s", after)
	}
}

// refusals holds a submission for every mistake that a client can make.
var refusals = []struct {
	name, body, target, code, field string
}{
	{"empty body", ``, "", op.CodeBadJSON, ""},
	{"not JSON", `hello`, "", op.CodeBadJSON, ""},
	{"a bare string", `"door"`, "", op.CodeBadJSON, ""},
	{"text after the value", `{"op_type":"version_entity","target_entity_id":"d"} x`, "", op.CodeBadJSON, ""},
	{"trailing comma", `{"op_type":"version_entity","target_entity_id":"d",}`, "", op.CodeBadJSON, ""},
	{"single quotes", `{'op_type':'version_entity'}`, "", op.CodeBadJSON, ""},
	{"leading zero", `{"op_type":"version_entity","max_retries":01}`, "d", op.CodeBadJSON, ""},
	{"control character", "{\"op_type\":\"version_entity\",\"submitter\":\"a\nb\"}", "d", op.CodeBadJSON, "submitter"},
	{"cut off", `{"op_type":"version_entity","params":{"a":[1,`, "d", op.CodeBadJSON, "params.a[1]"},
	{"unknown field", `{"op_type":"version_entity","prioritee":3}`, "d", op.CodeUnknownField, "prioritee"},
	{"field in other case", `{"OP_TYPE":"version_entity"}`, "d", op.CodeUnknownField, "OP_TYPE"},
	{"priority as object", `{"op_type":"version_entity","priority":{}}`, "d", op.CodeWrongType, "priority"},
	{"null", `{"op_type":"version_entity","submitter":null}`, "d", op.CodeWrongType, "submitter"},
	{"params as array", `{"op_type":"version_entity","params":[]}`, "d", op.CodeWrongType, "params"},
	{"fractional retries", `{"op_type":"version_entity","max_retries":1.5}`, "d", op.CodeWrongType, "max_retries"},
	{"preemptible as text", `{"op_type":"version_entity","preemptible":"yes"}`, "d", op.CodeWrongType, "preemptible"},
	{"label as number", `{"op_type":"version_entity","labels":{"a":1}}`, "d", op.CodeWrongType, "labels.a"},
	{"created_at as object", `{"op_type":"version_entity","created_at":{}}`, "d", op.CodeWrongType, "created_at"},
	{"array of numbers", `[1]`, "d", op.CodeWrongType, "[0]"},
	{"dot in op_id", `{"op_id":"a.b","op_type":"version_entity"}`, "d", op.CodeBadID, "op_id"},
	{"empty op_id", `{"op_id":"","op_type":"version_entity"}`, "d", op.CodeBadID, "op_id"},
	{"reserved op_id", `{"op_id":"s-12-0","op_type":"version_entity"}`, "d", op.CodeBadID, "op_id"},
	{"wildcard target", `{"op_type":"version_entity","target_entity_id":">"}`, "", op.CodeBadID, "target_entity_id"},
	{"wildcard in subject", `{"op_type":"version_entity"}`, "*", op.CodeBadID, "target_entity_id"},
	{"65 characters", `{"op_type":"version_entity","parent_op_id":"` + strings.Repeat("x", 65) + `"}`, "d", op.CodeBadID, "parent_op_id"},
	{"blank source", `{"op_type":"version_entity","source_entity_id":" "}`, "d", op.CodeBadID, "source_entity_id"},
	{"large body", `{"op_type":"version_entity"}` + strings.Repeat(" ", op.MaxBody), "d", op.CodeTooLarge, ""},
	{"17 levels", `{"op_type":"version_entity","params":{"a":` + strings.Repeat("[", 15) + strings.Repeat("]", 15) + `}}`, "d", op.CodeTooDeep, "params.a" + strings.Repeat("[0]", 14)},
	{"repeated field", `{"op_type":"version_entity","op_type":"version_entity"}`, "d", op.CodeDuplicateKey, "op_type"},
	{"repeated field in disguise", `{"op_type":"version_entity","op\u005ftype":"version_entity"}`, "d", op.CodeDuplicateKey, "op_type"},
	{"repeated key inside", `{"op_type":"version_entity","params":{"x":[0,{"a":1,"\u0061":2}]}}`, "d", op.CodeDuplicateKey, "params.x[1].a"},
	{"repeated label", `{"op_type":"version_entity","labels":{"a":"1","a":"2"}}`, "d", op.CodeDuplicateKey, "labels.a"},
	{"unknown type", `{"op_type":"version_entitty"}`, "d", op.CodeUnknownType, "op_type"},
	{"internal type", `{"op_type":"structure_follow_up"}`, "d", op.CodeUnknownType, "op_type"},
	{"two targets", `{"op_type":"version_entity","target_entity_id":"e"}`, "d", op.CodeTargetDiffers, "target_entity_id"},
	{"no type", `{}`, "d", op.CodeMissingField, "op_type"},
	{"no target", `{"op_type":"version_entity"}`, "", op.CodeMissingField, "target_entity_id"},
	{"priority 0", `{"op_type":"version_entity","priority":0}`, "d", op.CodeBadPriority, "priority"},
	{"priority 11", `{"op_type":"version_entity","priority":11}`, "d", op.CodeBadPriority, "priority"},
	{"priority 5.5", `{"op_type":"version_entity","priority":5.5}`, "d", op.CodeBadPriority, "priority"},
	{"priority by a wrong name", `{"op_type":"version_entity","priority":"URGENT"}`, "d", op.CodeBadPriority, "priority"},
	{"latin 1", "{\"op_type\":\"version_entity\",\"submitter\":\"J\xfcrgen\"}", "d", op.CodeBadUTF8, ""},
	{"half a surrogate pair", `{"op_type":"version_entity","params":{"a":"\ud83d"}}`, "d", op.CodeBadUTF8, "params.a"},
	{"long string", `{"op_type":"version_entity","params":{"a":"` + strings.Repeat("x", op.MaxString+1) + `"}}`, "d", op.CodeStringTooLong, "params.a"},
	{"long submitter", `{"op_type":"version_entity","submitter":"` + strings.Repeat(`\u00fc`, op.MaxString/2+1) + `"}`, "d", op.CodeStringTooLong, "submitter"},
	{"negative retries", `{"op_type":"version_entity","max_retries":-1}`, "d", op.CodeBadValue, "max_retries"},
	{"1001 retries", `{"op_type":"version_entity","max_retries":1001}`, "d", op.CodeBadValue, "max_retries"},
	{"on_conflict", `{"op_type":"version_entity","on_conflict":"fight"}`, "d", op.CodeBadValue, "on_conflict"},
	{"deadline", `{"op_type":"version_entity","deadline":"soon"}`, "d", op.CodeBadValue, "deadline"},
	{"negative deadline", `{"op_type":"version_entity","deadline":"-1s"}`, "d", op.CodeBadValue, "deadline"},
	{"deadline in year 10000", `{"op_type":"version_entity","deadline":"9999-12-31T23:59:59-01:00"}`, "d", op.CodeBadValue, "deadline"},
	{"negative version", `{"op_type":"version_entity","expected_version":-1}`, "d", op.CodeBadValue, "expected_version"},
	{"huge version", `{"op_type":"version_entity","expected_version":9223372036854775808}`, "d", op.CodeBadValue, "expected_version"},
	{"65 labels", `{"op_type":"version_entity","labels":{` + manyLabels(65) + `}}`, "d", op.CodeBadValue, "labels"},
	{"schema", `{"schema":"ops.v2.operation","op_type":"version_entity"}`, "d", op.CodeUnknownSchema, "schema"},
	{"empty array", `[]`, "d", op.CodeBadArray, ""},
	{"257 operations", `[` + strings.Repeat(`{"op_type":"version_entity"},`, 256) + `{"op_type":"version_entity"}]`, "d", op.CodeBadArray, ""},
	{"array on two targets", `[{"op_type":"version_entity","target_entity_id":"a"},{"op_type":"version_entity","target_entity_id":"b"}]`, "", op.CodeBadArray, "[1].target_entity_id"},
	{"array with one id twice", `[{"op_id":"a","op_type":"version_entity"},{"op_id":"a","op_type":"version_entity"}]`, "d", op.CodeBadArray, "[1].op_id"},
	{"mistake inside an array", `[{"op_type":"version_entity"},{"op_type":"version_entity","max_retries":-1}]`, "d", op.CodeBadValue, "[1].max_retries"},
}

func manyLabels(n int) string {
	var parts []string
	for i := range n {
		parts = append(parts, fmt.Sprintf(`"l%d":""`, i))
	}
	return strings.Join(parts, ",")
}

func TestDecodeRefuses(t *testing.T) {
	for _, c := range refusals {
		ops, err := op.Decode([]byte(c.body), c.target, op.BuiltinTypes())
		e := op.AsError(err)
		if e == nil || ops != nil {
			t.Errorf("%s: accepted as %+v (%v)", c.name, ops, err)
			continue
		}
		if e.Code != c.code || e.Field != c.field {
			t.Errorf("%s: code %s and field %q, want %s and %q: %s", c.name, e.Code, e.Field, c.code, c.field, e.Message)
		}
		if e.Type != op.ErrorType || e.Hint == "" || e.Message == "" {
			t.Errorf("%s: the error is not complete: %+v", c.name, e)
		}
	}
}

// Codes that speak of something else than one body are given elsewhere.
func TestEveryCodeOfABodyIsRefusedInATest(t *testing.T) {
	elsewhere := map[string]bool{
		op.CodeBadParams: true, op.CodeNotFound: true, op.CodeUnavailable: true, op.CodeBadSubject: true,
		op.CodeOverloaded: true, op.CodePaused: true, op.CodeNotAllowed: true, op.CodeBadPolicy: true,
	}
	seen := map[string]bool{}
	for _, c := range refusals {
		seen[c.code] = true
	}
	for _, info := range op.Errors() {
		if seen[info.Code] == elsewhere[info.Code] {
			t.Errorf("%s: in the table %v, excepted %v", info.Code, seen[info.Code], elsewhere[info.Code])
		}
	}
}

func TestDecodeProposesTheNameThatWasMeant(t *testing.T) {
	for body, want := range map[string]string{
		`{"op_type":"version_entity","priorty":3}`: "did you mean priority?",
		`{"op_type":"Modify-Field"}`:               "did you mean modify_field?",
	} {
		if _, err := op.Decode([]byte(body), "d", op.BuiltinTypes()); err == nil || !strings.HasSuffix(err.Error(), want) {
			t.Errorf("%s: %v, want it to end with %q", body, err, want)
		}
	}
}

func TestDecodeAcceptsTheLimits(t *testing.T) {
	accepted := map[string]string{
		"16 levels":        `{"op_type":"version_entity","params":{"a":` + strings.Repeat("[", 14) + strings.Repeat("]", 14) + `}}`,
		"4 KiB string":     `{"op_type":"version_entity","params":{"a":"` + strings.Repeat(`\n`, op.MaxString) + `"}}`,
		"64 characters":    `{"op_type":"version_entity","op_id":"` + strings.Repeat("x", op.MaxToken) + `"}`,
		"64 labels":        `{"op_type":"version_entity","labels":{` + manyLabels(64) + `}}`,
		"32 KiB":           `{"op_type":"version_entity"}` + strings.Repeat(" ", op.MaxBody-28),
		"1000 retries":     `{"op_type":"version_entity","max_retries":1000}`,
		"instant":          `{"op_type":"version_entity","deadline":"2030-01-02T03:04:05.678+02:00"}`,
		"key in many maps": `{"op_type":"version_entity","params":{"a":{"a":{"a":[{"a":1},{"a":2}]}},"b":{"a":1}}}`,
	}
	for name, body := range accepted {
		if _, err := op.Decode([]byte(body), "d", op.BuiltinTypes()); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestDecodeFindsARepeatedKeyAmongMany(t *testing.T) {
	body := `{"op_type":"version_entity","params":{` + manyLabels(40) + `,"l%d":0}}`
	for i := range 40 {
		_, err := op.Decode(fmt.Appendf(nil, body, i), "d", op.BuiltinTypes())
		if e := op.AsError(err); e == nil || e.Code != op.CodeDuplicateKey {
			t.Errorf("key l%d: %v, want %s", i, err, op.CodeDuplicateKey)
		}
	}
}

func TestDecodeInternal(t *testing.T) {
	id := op.FollowUpPrefix + "6ba7b810-9dad-11d1-80b4-00c04fd430c8"
	body := `{"op_id":"` + id + `","op_type":"structure_follow_up","params":{"version":true}}`
	ops, err := op.DecodeInternal([]byte(body), "d", op.BuiltinTypes())
	if err != nil || ops[0].ID != id || ops[0].Priority != op.Critical {
		t.Errorf("got %+v, %v", ops, err)
	}
}

func TestDecodeArray(t *testing.T) {
	ops, err := op.Decode([]byte(` [ {"op_type":"version_entity","op_id":"a"} , {"op_type":"version_entity"}, {"op_type":"version_entity"} ] `), "d", op.BuiltinTypes())
	if err != nil {
		t.Fatal(err)
	}
	i := -1
	op.Normalize(ops, func() string { i++; return op.DerivedID(42, i) })
	var ids []string
	for i := range ops {
		ids = append(ids, ops[i].ID+"@"+ops[i].Target)
	}
	if got, want := strings.Join(ids, " "), "a@d s-42-0@d s-42-1@d"; got != want {
		t.Errorf("ids %s, want %s", got, want)
	}
}

func TestDecodeBulkJudgesEachByItself(t *testing.T) {
	parts := []string{
		`{"op_type":"version_entity","target_entity_id":"a","params":{"s":"],}\"{["}}`,
		`{"op_type":"version_entity"}`,
		`7`,
		`{"op_type":"version_entity","target_entity_id":"a","submitter":"` + "\xff" + `"}`,
		`{"op_type" "version_entity"}`,
		`{"op_type":"version_entity","target_entity_id":"b"}`,
	}
	ops, errs, err := op.DecodeBulk([]byte("[ "+strings.Join(parts, " ,\n")+" ]"), op.BuiltinTypes())
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for i := range ops {
		if errs[i] != nil {
			got = append(got, errs[i].Code)
		} else {
			got = append(got, ops[i].Target)
		}
	}
	want := strings.Join([]string{"a", op.CodeMissingField, op.CodeWrongType, op.CodeBadUTF8, op.CodeBadJSON, "b"}, " ")
	if s := strings.Join(got, " "); s != want {
		t.Errorf("got %s, want %s", s, want)
	}
}

func TestDecodeBulkRefusesWhatItCannotTakeApart(t *testing.T) {
	for body, code := range map[string]string{
		`{}`:                                   op.CodeBadJSON,
		`[{}`:                                  op.CodeBadJSON,
		`[{},]`:                                op.CodeBadJSON,
		`[{}] x`:                               op.CodeBadJSON,
		`[]`:                                   op.CodeBadArray,
		`[` + strings.Repeat("1,", 500) + `1]`: op.CodeTooLarge,
		`[` + bulkOperation + strings.Repeat(" ", 128<<10) + `]`:           op.CodeTooLarge,
		`[` + strings.Repeat(bulkOperation+",", 500) + bulkOperation + `]`: op.CodeTooLarge,
	} {
		ops, errs, err := op.DecodeBulk([]byte(body), op.BuiltinTypes())
		if e := op.AsError(err); e == nil || e.Code != code || e.Hint == "" || ops != nil || errs != nil {
			t.Errorf("%.20q: %v, want %s", body, err, code)
		}
	}
}

const bulkOperation = `{"op_type":"version_entity","target_entity_id":"a"}`

func TestDecodeBulkAcceptsItsLimits(t *testing.T) {
	body := `[` + strings.Repeat(bulkOperation+",", 499) + bulkOperation + `]`
	body += strings.Repeat(" ", 128<<10-len(body))
	ops, errs, err := op.DecodeBulk([]byte(body), op.BuiltinTypes())
	if err != nil || len(ops) != 500 {
		t.Fatalf("%d operations, %v", len(ops), err)
	}
	for i, e := range errs {
		if e != nil {
			t.Errorf("operation %d: %v", i, e)
		}
	}
}

func TestReservedIDs(t *testing.T) {
	for id, want := range map[string]bool{
		op.DerivedID(1, 0): true, op.DerivedID(1<<63, 255): true, "s-1": false, "s-a-0": false, "s-1-2-3": false, "sun-1-2": false,
		"f-6ba7b810-9dad-11d1-80b4-00c04fd430c8": true, "f-1": false, op.NewID(): false,
	} {
		if op.Reserved(id) != want {
			t.Errorf("Reserved(%s) = %v", id, !want)
		}
	}
	if a, b := op.NewID(), op.NewID(); a == b || !op.Token(a) {
		t.Errorf("NewID gave %s and %s", a, b)
	}
}
