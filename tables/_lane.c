/* The fast lane of `tables.engine.Engine.apply`: runs of plain book deltas and quotes, without
 * Python between.
 *
 * Nearly all records are book deltas and quotes that are exactly what they should be: written as the
 * bridge writes them, next in the feed's sequence, in the second that the engine is in, in its units,
 * of a book that is right. `take` applies those, on the engine's own dicts and lists, and stops
 * before the first record of which any of it is not so: that one, and whatever it leads to, is for
 * `Engine._take_delta` and the others. Without a compiler there is no lane and nothing else
 * changes; tests compare the two, state by state.
 */
#include "../streams/_scan.h"

#define LEVELS_FIRST 128       /* room for those of one record, before more is asked for */
#define SIZES_FIRST 1024       /* likewise, for those left standing by one run */

typedef struct {
    int64_t px, sz;
} Level;

/* A record, read but not applied: a delta's levels are in a `Room`, bids first. */
typedef struct {
    int64_t ts_recv_ms, feed_token, feed_seq, seq, px_e, sz_e;
    bool has_seq, is_quote;
    size_t bids, levels; /* `levels` in all, the first `bids` of them bids; none of a quote */
} Plain;

/* Memory of one call, as methods of the engine's may let another thread in. */
typedef struct {
    Level *levels, first_levels[LEVELS_FIRST];
    int64_t *sizes, first_sizes[SIZES_FIRST];
    size_t levels_max, sizes_max;
} Room;

static PyObject *s_applied, *s_feed_token, *s_feed_seq, *s_newest_ms, *s_second_ends_ms,
    *s_last_change_ms, *s_px_e, *s_sz_e, *s_large_least, *s_book, *s_state, *s_ok, *s_bids, *s_asks,
    *s_seq, *s_prices, *s_sizes, *s_spoof, *s_iceberg, *s_watched, *s_fresh, *s_book_changed,
    *s_noted, *s_crossed, *s_sampled, *s_quoted, *s_taken, *s_quotes, *s_openings, *s_bid, *s_ask;

static PyObject *never, *nothing; /* an int that no level grows by; 0 */

/* --- room ------------------------------------------------------------------------------------- */

static void open_room(Room *room) {
    room->levels = room->first_levels;
    room->levels_max = LEVELS_FIRST;
    room->sizes = room->first_sizes;
    room->sizes_max = SIZES_FIRST;
}

static void close_room(Room *room) {
    if (room->levels != room->first_levels)
        PyMem_Free(room->levels);
    if (room->sizes != room->first_sizes)
        PyMem_Free(room->sizes);
}

/* Twice as much of it, or more: `first` is where it began. False, and as it was, without memory. */
static bool widen(void **held, void *first, size_t *most, size_t wanted, size_t each) {
    size_t larger = 2 * *most > wanted ? 2 * *most : wanted;
    void *moved = PyMem_Realloc(*held == first ? NULL : *held, larger * each);
    if (moved == NULL)
        return false;
    if (*held == first)
        memcpy(moved, first, *most * each);
    *held = moved;
    *most = larger;
    return true;
}

/* --- reading ---------------------------------------------------------------------------------- */

static inline bool exponent(Cursor *cursor, int64_t *value) {
    bool negative = AFTER(cursor, "-");
    if (!natural(cursor, 18, value) || (negative && *value == 0))
        return false;
    if (negative)
        *value = -*value;
    return true;
}

/* The levels of one side, and the bracket behind them. */
static bool read_levels(Cursor *cursor, Room *room, size_t *count) {
    if (AFTER(cursor, "]"))
        return true;
    do {
        if (*count == room->levels_max
            && !widen((void **)&room->levels, room->first_levels, &room->levels_max, 0,
                      sizeof(Level)))
            return false;
        Level *level = &room->levels[(*count)++];
        if (!AFTER(cursor, "[") || !natural(cursor, VALUE_MAX, &level->px) || level->px == 0
            || !AFTER(cursor, ",") || !natural(cursor, VALUE_MAX, &level->sz)
            || !AFTER(cursor, "]"))
            return false;
    } while (AFTER(cursor, ","));
    return AFTER(cursor, "]");
}

/* What all kinds have between their opening and their own fields. */
static bool read_common(Cursor *at, Plain *plain) {
    int64_t ts_event_ms, routing_version;
    if (!natural(at, MILLIS_MAX - 1, &ts_event_ms) || !AFTER(at, ",\"ts_recv_ms\":")
        || !natural(at, MILLIS_MAX - 1, &plain->ts_recv_ms)
        || !AFTER(at, ",\"v\":1,\"feed\":{\"token\":")
        || !natural(at, COUNT_MAX - 1, &plain->feed_token)
        || !AFTER(at, ",\"seq\":") || !natural(at, COUNT_MAX - 1, &plain->feed_seq)
        || !AFTER(at, "},\"routing_version\":") || !natural(at, COUNT_MAX - 1, &routing_version))
        return false;
    plain->has_seq = AFTER(at, ",\"seq\":");
    if (plain->has_seq && !natural(at, COUNT_MAX - 1, &plain->seq))
        return false;
    return AFTER(at, ",\"px_e\":") && exponent(at, &plain->px_e) && AFTER(at, ",\"sz_e\":")
           && exponent(at, &plain->sz_e);
}

/* A quote's fields, and the end of its record. */
static bool read_quote(Cursor *at) {
    int64_t bid_px, bid_sz, ask_px, ask_sz;
    return AFTER(at, ",\"quote\":{\"bid_px\":") && natural(at, VALUE_MAX, &bid_px) && bid_px != 0
           && AFTER(at, ",\"bid_sz\":") && natural(at, VALUE_MAX, &bid_sz)
           && AFTER(at, ",\"ask_px\":") && natural(at, VALUE_MAX, &ask_px) && ask_px != 0
           && AFTER(at, ",\"ask_sz\":") && natural(at, VALUE_MAX, &ask_sz) && AFTER(at, "}}")
           && at->at == at->end;
}

/* A delta or a quote as `streams.events.encode` writes it; false for everything else.
 *
 * `openings` are all before the value of ts_event_ms, a delta's and a ticker's: kind, venue, symbol.
 */
static bool read_plain(PyObject *raw, PyObject *openings, Room *room, Plain *plain) {
    const char *first = PyBytes_AS_STRING(raw);
    Cursor here = {first, first + PyBytes_GET_SIZE(raw)}, *at = &here;
    PyObject *delta = PyTuple_GET_ITEM(openings, 0), *ticker = PyTuple_GET_ITEM(openings, 1);
    plain->is_quote = !after(at, PyBytes_AS_STRING(delta), (size_t)PyBytes_GET_SIZE(delta));
    if (plain->is_quote
        && !after(at, PyBytes_AS_STRING(ticker), (size_t)PyBytes_GET_SIZE(ticker)))
        return false;
    plain->levels = plain->bids = 0;
    if (!read_common(at, plain))
        return false;
    if (plain->is_quote)
        return read_quote(at);
    if (!AFTER(at, ",\"bids\":[") || !read_levels(at, room, &plain->levels))
        return false;
    plain->bids = plain->levels;
    return AFTER(at, ",\"asks\":[") && read_levels(at, room, &plain->levels) && AFTER(at, "}")
           && here.at == here.end;
}

/* --- the engine, as far as it is needed ------------------------------------------------------- */

typedef struct {
    PyObject *engine, *book, *spoof, *iceberg, *spoofs, *icebergs, *fresh;
    Side bids, asks;
    int64_t feed_token, feed_seq, newest_ms, second_ends_ms, last_change_ms, px_e, sz_e, large;
    int64_t applied;
    PyObject *large_least;
    PyObject *seq; /* the newest delta's; NULL before the first */
    PyObject *quote; /* the newest, as it came; borrowed, NULL before the first */
    size_t taken, quotes, standing; /* records; those of them that are quotes; sizes in `room` */
    bool seen; /* newest_ms is what the engine has */
    Room *room;
} Run;

static bool set_number(PyObject *owner, PyObject *name, int64_t value) {
    PyObject *boxed = PyLong_FromLongLong(value);
    int failed = boxed == NULL ? -1 : PyObject_SetAttr(owner, name, boxed);
    Py_XDECREF(boxed);
    return failed == 0;
}

static void close_run(Run *run) {
    PyObject *owned[] = {run->book,        run->spoof,       run->iceberg,    run->spoofs,
                         run->icebergs,    run->fresh,       run->bids.sizes, run->bids.prices,
                         run->asks.sizes,  run->asks.prices, run->large_least, run->seq};
    for (size_t n = 0; n < sizeof owned / sizeof *owned; n++)
        Py_XDECREF(owned[n]);
}

/* False where there is nothing for the lane, or an error. */
static bool open_run(PyObject *engine, Room *room, Run *run) {
    memset(run, 0, sizeof *run);
    run->engine = engine;
    run->room = room;
    run->seen = true;
    if ((run->book = PyObject_GetAttr(engine, s_book)) == NULL)
        return false;
    PyObject *state = PyObject_GetAttr(run->book, s_state);
    if (state == NULL)
        return false;
    int is_ok = state == s_ok ? 1 : PyObject_RichCompareBool(state, s_ok, Py_EQ);
    Py_DECREF(state);
    if (is_ok != 1)
        return false;
    if (!number(engine, s_applied, &run->applied)
        || !number(engine, s_feed_token, &run->feed_token)
        || !number(engine, s_feed_seq, &run->feed_seq)
        || !number(engine, s_newest_ms, &run->newest_ms)
        || !number(engine, s_second_ends_ms, &run->second_ends_ms)
        || !number(engine, s_last_change_ms, &run->last_change_ms)
        || !number(engine, s_px_e, &run->px_e) || !number(engine, s_sz_e, &run->sz_e))
        return false;
    if ((run->large_least = PyObject_GetAttr(engine, s_large_least)) == NULL
        || !PyLong_Check(run->large_least))
        return false;
    int overflow;
    run->large = PyLong_AsLongLongAndOverflow(run->large_least, &overflow);
    if (overflow)
        run->large = INT64_MAX; /* nothing grows by as much */
    if (!side_of(run->book, s_bids, s_sizes, s_prices, &run->bids) || !side_of(run->book, s_asks, s_sizes, s_prices, &run->asks)
        || (run->spoof = PyObject_GetAttr(engine, s_spoof)) == NULL
        || (run->spoofs = PyObject_GetAttr(run->spoof, s_watched)) == NULL
        || (run->iceberg = PyObject_GetAttr(engine, s_iceberg)) == NULL
        || (run->icebergs = PyObject_GetAttr(run->iceberg, s_watched)) == NULL
        || (run->fresh = PyObject_GetAttr(run->iceberg, s_fresh)) == NULL)
        return false;
    return PyDict_Check(run->spoofs) && PyDict_Check(run->icebergs) && PySet_Check(run->fresh);
}

/* Before the engine's own methods look at it. */
static bool show_time(Run *run) {
    if (run->seen)
        return true;
    run->seen = set_number(run->engine, s_newest_ms, run->newest_ms);
    return run->seen;
}

/* All that has changed, back into the engine. An error that is set stays set. */
static bool keep(Run *run) {
    PyObject *type, *value, *trace;
    PyErr_Fetch(&type, &value, &trace);
    bool kept = show_time(run) && set_number(run->engine, s_applied, run->applied)
                && set_number(run->engine, s_feed_seq, run->feed_seq)
                && set_number(run->engine, s_last_change_ms, run->last_change_ms)
                && set_number(run->engine, s_taken, (int64_t)run->taken)
                && set_number(run->engine, s_quotes, (int64_t)run->quotes);
    if (kept && run->quote != NULL) {
        PyObject *done = PyObject_CallMethodOneArg(run->engine, s_quoted, run->quote);
        Py_XDECREF(done);
        kept = done != NULL;
    }
    if (kept && run->seq != NULL)
        kept = PyObject_SetAttr(run->book, s_seq, run->seq) == 0;
    if (kept) {
        PyObject *sizes = PyBytes_FromStringAndSize(
            (const char *)run->room->sizes, (Py_ssize_t)(run->standing * sizeof(int64_t)));
        PyObject *done
            = sizes == NULL ? NULL : PyObject_CallMethodOneArg(run->engine, s_sampled, sizes);
        Py_XDECREF(sizes);
        Py_XDECREF(done);
        kept = done != NULL;
    }
    if (type != NULL) {
        PyErr_Clear();
        PyErr_Restore(type, value, trace);
        return false;
    }
    return kept;
}

/* --- ladders ---------------------------------------------------------------------------------- */

static bool stands(PyObject *watched, PyObject *px) {
    return PyDict_GET_SIZE(watched) && PyDict_Contains(watched, px) == 1;
}

/* `streams.ladder.Ladder.change`, and `Engine._noted` for what is to be noted. */
static bool change(Run *run, Side *side, PyObject *name, const Level *first, size_t count,
                   int64_t large, PyObject *large_object, bool follow_spoofs, PyObject *mid_doubled) {
    PyObject *noted = NULL;
    bool well = true;
    for (const Level *level = first; well && level < first + count; level++) {
        PyObject *px = PyLong_FromLongLong(level->px);
        if (px == NULL) {
            well = false;
            break;
        }
        PyObject *before = PyDict_GetItemWithError(side->sizes, px); /* borrowed */
        if (before == NULL && PyErr_Occurred()) {
            Py_DECREF(px);
            well = false;
            break;
        }
        int64_t stood = before == NULL ? 0 : as_int64(before);
        bool note = (large != INT64_MAX && level->sz > stood && level->sz - stood >= large)
                    || (follow_spoofs && stands(run->spoofs, px)) || stands(run->icebergs, px);
        if (note) {
            PyObject *one = Py_BuildValue("(OOL)", px, before == NULL ? nothing : before,
                                          (long long)level->sz);
            if (noted == NULL)
                noted = PyList_New(0);
            well = one != NULL && noted != NULL && PyList_Append(noted, one) == 0;
            Py_XDECREF(one);
        }
        if (well && level->sz) {
            PyObject *sz = PyLong_FromLongLong(level->sz);
            well = sz != NULL
                   && (before != NULL
                       || insert_at(side->prices, place_of(side->prices, level->px), px))
                   && PyDict_SetItem(side->sizes, px, sz) == 0;
            Py_XDECREF(sz);
            run->room->sizes[run->standing++] = level->sz;
        } else if (well && before != NULL) {
            Py_ssize_t place = place_of(side->prices, level->px);
            well = PyDict_DelItem(side->sizes, px) == 0
                   && PyList_SetSlice(side->prices, place, place + 1, NULL) == 0;
        }
        Py_DECREF(px);
    }
    for (Py_ssize_t n = 0; well && noted != NULL && n < PyList_GET_SIZE(noted); n++) {
        PyObject *asked[] = {run->engine, name, PyList_GET_ITEM(noted, n), large_object, mid_doubled};
        PyObject *done = show_time(run) ? PyObject_VectorcallMethod(s_noted, asked, 5, NULL) : NULL;
        well = done != NULL;
        Py_XDECREF(done);
    }
    Py_XDECREF(noted);
    return well;
}

/* --- the lane --------------------------------------------------------------------------------- */

/* Apply one record that fits. 1: go on; 0: the book crossed, stop behind it; -1: an error. */
static int apply_delta(Run *run, const Plain *delta) {
    Py_ssize_t bids = PyList_GET_SIZE(run->bids.prices), asks = PyList_GET_SIZE(run->asks.prices);
    int64_t doubled = 0;
    if (bids && asks)
        doubled = as_int64(PyList_GET_ITEM(run->bids.prices, bids - 1))
                  + as_int64(PyList_GET_ITEM(run->asks.prices, 0));
    /* Twice the mid, so that it stays an integer; without one no threshold is known. */
    bool follow = doubled != 0 && run->large != INT64_MAX;
    PyObject *mid_doubled = PyLong_FromLongLong(doubled);
    if (mid_doubled == NULL)
        return -1;
    int64_t large = follow ? run->large : INT64_MAX;
    PyObject *large_object = follow ? run->large_least : never;
    const Level *levels = run->room->levels;
    bool well = change(run, &run->bids, s_bid, levels, delta->bids, large, large_object, follow,
                       mid_doubled)
                && change(run, &run->asks, s_ask, levels + delta->bids, delta->levels - delta->bids,
                          large, large_object, follow, mid_doubled);
    Py_DECREF(mid_doubled);
    if (well && PySet_GET_SIZE(run->fresh)) {
        PyObject *done = PyObject_CallMethodNoArgs(run->iceberg, s_book_changed);
        well = done != NULL;
        Py_XDECREF(done);
    }
    if (!well)
        return -1;
    Py_XDECREF(run->seq);
    run->seq = delta->has_seq ? PyLong_FromLongLong(delta->seq) : Py_NewRef(Py_None);
    if (run->seq == NULL)
        return -1;
    bids = PyList_GET_SIZE(run->bids.prices);
    asks = PyList_GET_SIZE(run->asks.prices);
    return !(bids && asks
             && as_int64(PyList_GET_ITEM(run->bids.prices, bids - 1))
                    >= as_int64(PyList_GET_ITEM(run->asks.prices, 0)));
}

/* Whether a record is what comes next, in every respect. */
static bool fits(const Run *run, const Plain *plain, int64_t offset) {
    if (offset <= run->applied || plain->feed_token != run->feed_token
        || plain->feed_seq != run->feed_seq + 1 || plain->px_e != run->px_e
        || plain->sz_e != run->sz_e || plain->ts_recv_ms >= run->second_ends_ms)
        return false;
    return plain->ts_recv_ms > run->newest_ms || plain->ts_recv_ms >= run->second_ends_ms - 1000;
}

/* Whether a best price is too large to be added to another. */
static bool vast(const Run *run) {
    Py_ssize_t bids = PyList_GET_SIZE(run->bids.prices), asks = PyList_GET_SIZE(run->asks.prices);
    return (bids && as_int64(PyList_GET_ITEM(run->bids.prices, bids - 1)) > VALUE_MAX - 1)
           || (asks && as_int64(PyList_GET_ITEM(run->asks.prices, 0)) > VALUE_MAX - 1);
}

PyDoc_STRVAR(take_doc, "take(engine, records, at)\n--\n\n"
    "Apply records from ``at`` on while they are plain book deltas and quotes; ``engine.lane_taken``\n"
    "says how many, ``engine.lane_quotes`` how many of those are quotes. What the engine's own methods raise of a record is raised: it is the one behind those.");

static PyObject *take(PyObject *Py_UNUSED(module), PyObject *const *args, Py_ssize_t nargs) {
    if (nargs != 3 || !PyList_CheckExact(args[1])) {
        PyErr_SetString(PyExc_TypeError, "take(engine, list of (offset, value), at)");
        return NULL;
    }
    PyObject *engine = args[0], *records = args[1];
    Py_ssize_t at = PyLong_AsSsize_t(args[2]);
    if (at < 0 && PyErr_Occurred())
        return NULL;
    PyObject *openings = PyObject_GetAttr(engine, s_openings);
    if (openings == NULL)
        return NULL;
    if (!PyTuple_CheckExact(openings) || PyTuple_GET_SIZE(openings) != 2) {
        Py_DECREF(openings);
        PyErr_SetString(PyExc_TypeError, "openings: a delta's and a ticker's");
        return NULL;
    }
    Run run;
    Room room;
    Plain plain;
    open_room(&room);
    bool open = false, well = true;
    for (; at >= 0 && at < PyList_GET_SIZE(records); at++) {
        PyObject *record = PyList_GET_ITEM(records, at);
        if (!PyTuple_CheckExact(record) || PyTuple_GET_SIZE(record) != 2
            || !PyBytes_CheckExact(PyTuple_GET_ITEM(record, 1))
            || !PyLong_CheckExact(PyTuple_GET_ITEM(record, 0))
            || !read_plain(PyTuple_GET_ITEM(record, 1), openings, &room, &plain))
            break;
        if (!open) {
            open = open_run(engine, &room, &run);
            if (!open) {
                close_run(&run);
                well = !PyErr_Occurred();
                break;
            }
        }
        int64_t offset = as_int64(PyTuple_GET_ITEM(record, 0));
        if (!fits(&run, &plain, offset) || (!plain.is_quote && vast(&run)))
            break;
        size_t sizes = run.standing + plain.levels;
        if (sizes > room.sizes_max
            && !widen((void **)&room.sizes, room.first_sizes, &room.sizes_max, sizes,
                      sizeof(int64_t)))
            break;
        run.applied = offset;
        run.feed_seq = plain.feed_seq;
        if (plain.ts_recv_ms > run.newest_ms) {
            run.newest_ms = plain.ts_recv_ms;
            run.seen = false;
        }
        if (plain.ts_recv_ms > run.last_change_ms)
            run.last_change_ms = plain.ts_recv_ms;
        if (plain.is_quote) {
            run.quote = PyTuple_GET_ITEM(record, 1);
            run.quotes++;
            run.taken++;
            continue;
        }
        int went = apply_delta(&run, &plain);
        well = went >= 0;
        run.taken += went >= 0;
        if (went == 1)
            continue;
        if (went == 0) {
            PyObject *done
                = show_time(&run) ? PyObject_CallMethodNoArgs(engine, s_crossed) : NULL;
            well = done != NULL;
            Py_XDECREF(done);
        }
        break;
    }
    Py_DECREF(openings);
    if (open) {
        if (run.taken || !well)
            well = keep(&run) && well;
        close_run(&run);
    }
    close_room(&room);
    if (!well)
        return NULL;
    Py_RETURN_NONE;
}

static PyMethodDef methods[] = {
    {"take", (PyCFunction)(void (*)(void))take, METH_FASTCALL, take_doc},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT, "tables._lane", "Runs of plain book deltas and quotes, applied at once.", -1, methods,
    NULL, NULL, NULL, NULL,
};

PyMODINIT_FUNC PyInit__lane(void) {
    const struct {
        PyObject **name;
        const char *text;
    } names[] = {
        {&s_applied, "applied"},
        {&s_feed_token, "feed_token"},
        {&s_feed_seq, "feed_seq"},
        {&s_newest_ms, "newest_ms"},
        {&s_second_ends_ms, "_second_ends_ms"},
        {&s_last_change_ms, "last_change_ms"},
        {&s_px_e, "px_e"},
        {&s_sz_e, "sz_e"},
        {&s_large_least, "_large_least"},
        {&s_book, "book"},
        {&s_state, "state"},
        {&s_ok, "ok"},
        {&s_bids, "bids"},
        {&s_asks, "asks"},
        {&s_seq, "seq"},
        {&s_prices, "prices"},
        {&s_sizes, "sizes"},
        {&s_spoof, "spoof"},
        {&s_iceberg, "iceberg"},
        {&s_watched, "watched"},
        {&s_fresh, "fresh"},
        {&s_book_changed, "book_changed"},
        {&s_noted, "_noted"},
        {&s_crossed, "_crossed"},
        {&s_sampled, "_sampled"},
        {&s_quoted, "_quoted"},
        {&s_taken, "lane_taken"},
        {&s_quotes, "lane_quotes"},
        {&s_openings, "_openings"},
        {&s_bid, "bid"},
        {&s_ask, "ask"},
    };
    for (size_t n = 0; n < sizeof names / sizeof *names; n++)
        if ((*names[n].name = PyUnicode_InternFromString(names[n].text)) == NULL)
            return NULL;
    never = PyLong_FromLongLong(INT64_MAX);
    nothing = PyLong_FromLong(0);
    if (never == NULL || nothing == NULL)
        return NULL;
    return PyModule_Create(&definition);
}
