/* The fast lane of `BinanceAssembler.receive`: depth, trade and bookTicker frames that are exactly
 * what they should be.
 *
 * Nearly all frames are written as the venue writes them, of a symbol that is followed, next in
 * their sequence, with a time that can be true and numbers that fit the symbol's exponents. `take`
 * turns such a frame into its event, and changes the very objects that the methods of `SymbolFeed`
 * and `DepthFeed` change. Of any other frame it changes nothing and returns None: that one is for
 * those methods. Without a compiler there is no lane and nothing else changes; tests compare the
 * two, frame by frame.
 */
#include "../../_scan.h"
#include <structmember.h>

#define LEVELS_FIRST 256 /* room for those of one frame, before more is asked for */
#define TEXT_MAX 40      /* streams.venues.decimals.TEXT_MAX */
#define FIELDS_MAX 8     /* of an event, that are set */
#define NAME_ROOM 64      /* of a stream, and of an event's id */
#define SKEW_MS 60000    /* streams.venues.market.CLOCK_SKEW_MS */
#define EXPONENT_MIN (-8)

typedef enum { DEPTH, TRADE, QUOTE } Kind;

static const char *const kind_names[] = {"depth", "trade", "bookTicker"};

/* The attributes that an event of a kind is given, and a quote. */
enum { TS_EVENT, TS_RECV, SEQ, BIDS, ASKS };
enum { PX = SEQ, SZ, SIDE, EVENT_ID, TRADE_ID };
enum { TICKER_QUOTE = SEQ + 1 };

static const char *const event_fields[][FIELDS_MAX + 1] = {
    {"ts_event_ms", "ts_recv_ms", "seq", "bids", "asks", NULL},
    {"ts_event_ms", "ts_recv_ms", "px", "sz", "side", "event_id", "trade_id", NULL},
    {"ts_event_ms", "ts_recv_ms", "seq", "quote", NULL},
};
static const char *const quote_fields[] = {"bid_px", "bid_sz", "ask_px", "ask_sz", NULL};

typedef struct {
    int64_t px, sz;
} Level;

/* Where the attributes that differ from event to event are in an object of a class with slots. */
typedef struct {
    Py_ssize_t at[FIELDS_MAX];
} Fields;

/* One stream of one symbol. */
typedef struct {
    PyObject_HEAD
    Kind kind;
    Fields fields, quote_fields; /* in the order of `event_fields` and `quote_fields` */
    PyObject *feed, *market, *depth, *counts, *events; /* events: the dict of counts by kind */
    PyObject *copy_event, *copy_quote; /* bound `__copy__` of events with all that stays the same */
    PyObject *event;                   /* the one that is copied */
    PyObject *tag;                     /* what it is counted as */
    PyObject *pass_on, *again; /* counts what is rare; reads a frame as `SymbolFeed` wants it */
    PyObject *waiting;                 /* the list of messages that are ahead of their turn */
    PyObject *tops, *recent, *append;  /* of the book's `TopCheck`; `append` to its pending quotes */
    PyObject *px, *sz;                 /* scales whose exponents are known: */
    int64_t px_e, sz_e;
    char symbol[NAME_ROOM], prefix[NAME_ROOM]; /* the venue's; of a trade's event id */
    size_t symbol_length, prefix_length;
} Lane;

static PyObject *s_market, *s_depth, *s_counts, *s_events, *s_px, *s_sz, *s_exponent, *s_px_e,
    *s_sz_e, *s_quote_id, *s_trade_id, *s_trade_ms, *s_synced, *s_since, *s_ahead, *s_messages, *s_book, *s_bids, *s_asks,
    *s_prices, *s_sizes, *s_seq, *s_tops, *s_recent, *s_pending, *s_append, *s_check,
    *s_progress_ms, *s_crossed, *s_buy, *s_sell, *s_trades, *s_copy, *s_venue_symbol, *s_prefix;

static PyObject *one;

/* --- Python's objects -------------------------------------------------------------------------- */

/* Set an attribute to an object that is given away; false where there is none. */
static bool give(PyObject *owner, PyObject *name, PyObject *value) {
    int failed = value == NULL ? -1 : PyObject_SetAttr(owner, name, value);
    Py_XDECREF(value);
    return failed == 0;
}

static bool give_number(PyObject *owner, PyObject *name, int64_t value) {
    return give(owner, name, PyLong_FromLongLong(value));
}

/* Learn where a class keeps attributes; false, with an error, where it has no slots for them. */
static bool find(PyTypeObject *type, const char *const *names, Fields *fields) {
    for (size_t n = 0; names[n] != NULL; n++) {
        PyObject *slot = PyObject_GetAttrString((PyObject *)type, names[n]);
        if (slot == NULL)
            return false;
        bool is_slot = Py_IS_TYPE(slot, &PyMemberDescr_Type)
                       && ((PyMemberDescrObject *)slot)->d_member->type == T_OBJECT_EX;
        fields->at[n] = is_slot ? ((PyMemberDescrObject *)slot)->d_member->offset : 0;
        Py_DECREF(slot);
        if (!is_slot) {
            PyErr_Format(PyExc_TypeError, "%s.%s is no slot", type->tp_name, names[n]);
            return false;
        }
    }
    return true;
}

/* Give an object its attribute, as setattr would, without looking for it. */
static inline bool put(PyObject *owner, const Fields *fields, size_t n, PyObject *value) {
    PyObject **slot = (PyObject **)((char *)owner + fields->at[n]), *before = *slot;
    if (value == NULL)
        return false;
    *slot = value;
    Py_XDECREF(before);
    return true;
}

static inline bool put_number(PyObject *owner, const Fields *fields, size_t n, int64_t value) {
    return put(owner, fields, n, PyLong_FromLongLong(value));
}

/* One more in an attribute. */
static bool raise_count(PyObject *owner, PyObject *name) {
    PyObject *before = PyObject_GetAttr(owner, name);
    PyObject *after = before == NULL ? NULL : PyNumber_Add(before, one);
    Py_XDECREF(before);
    return give(owner, name, after);
}

/* One more of the lane's kind of event. */
static bool passed(Lane *lane) {
    PyObject *before = PyDict_GetItemWithError(lane->events, lane->tag); /* borrowed */
    if (before == NULL && PyErr_Occurred())
        return false;
    PyObject *after = before == NULL ? Py_NewRef(one) : PyNumber_Add(before, one);
    int failed = after == NULL ? -1 : PyDict_SetItem(lane->events, lane->tag, after);
    Py_XDECREF(after);
    return failed == 0;
}

/* Learn the exponents of the market's scales, which are new objects when they become finer. */
static bool scaled(Lane *lane) {
    PyObject *px = PyObject_GetAttr(lane->market, s_px), *sz = PyObject_GetAttr(lane->market, s_sz);
    bool well = px != NULL && sz != NULL;
    if (well && (px != lane->px || sz != lane->sz)) {
        well = number(px, s_exponent, &lane->px_e) && number(sz, s_exponent, &lane->sz_e)
               && give_number(lane->event, s_px_e, lane->px_e)
               && give_number(lane->event, s_sz_e, lane->sz_e);
        Py_XSETREF(lane->px, well ? Py_NewRef(px) : NULL);
        Py_XSETREF(lane->sz, well ? Py_NewRef(sz) : NULL);
    }
    Py_XDECREF(px);
    Py_XDECREF(sz);
    return well && lane->px_e <= 0 && lane->px_e >= EXPONENT_MIN && lane->sz_e <= 0
           && lane->sz_e >= EXPONENT_MIN;
}

/* --- reading ----------------------------------------------------------------------------------- */

/* A decimal number in quotes, in units of 10 ** exponent; false where it does not fit. */
static inline bool decimal(Cursor *cursor, int64_t exponent, int64_t least, int64_t *value) {
    const char *p = cursor->at, *first;
    uint64_t n = 0;
    if (*p != '"')
        return false;
    first = ++p;
    for (; *p >= '0' && *p <= '9'; p++) {
        if (n > (uint64_t)VALUE_MAX / 10)
            return false;
        n = n * 10 + (uint64_t)(*p - '0');
    }
    if (p == first)
        return false;
    int64_t places = -exponent;
    if (*p == '.') {
        const char *fraction = ++p;
        for (; *p >= '0' && *p <= '9'; p++) {
            if (places) {
                if (n > (uint64_t)VALUE_MAX / 10)
                    return false;
                n = n * 10 + (uint64_t)(*p - '0');
                places--;
            } else if (*p != '0') {
                return false;
            }
        }
        if (p == fraction)
            return false;
    }
    if (*p != '"' || p - first > TEXT_MAX)
        return false;
    for (; places; places--) {
        if (n > (uint64_t)VALUE_MAX / 10)
            return false;
        n *= 10;
    }
    if (n > (uint64_t)VALUE_MAX || n < (uint64_t)least)
        return false;
    *value = (int64_t)n;
    cursor->at = p + 1;
    return true;
}

static inline bool price(Lane *lane, Cursor *at, int64_t *value) {
    return decimal(at, lane->px_e, 1, value);
}

static inline bool size(Lane *lane, Cursor *at, int64_t *value) {
    return decimal(at, lane->sz_e, 0, value);
}

static inline bool own(Lane *lane, Cursor *at) {
    return after(at, lane->symbol, lane->symbol_length);
}

static inline bool ends(Cursor *at) {
    return AFTER(at, "}}") && at->at == at->end;
}

static inline bool credible(int64_t venue_ms, int64_t recv_ms) {
    return venue_ms - recv_ms >= -SKEW_MS && venue_ms - recv_ms <= SKEW_MS;
}

/* The levels of one side, and the bracket behind them. */
static bool read_levels(Lane *lane, Cursor *at, Level **levels, Level *first, size_t *room,
                        size_t *count) {
    if (AFTER(at, "]"))
        return true;
    do {
        if (*count == *room) {
            Level *moved = PyMem_Realloc(*levels == first ? NULL : *levels,
                                         2 * *room * sizeof(Level));
            if (moved == NULL)
                return false;
            if (*levels == first)
                memcpy(moved, first, *room * sizeof(Level));
            *levels = moved;
            *room *= 2;
        }
        Level *level = &(*levels)[(*count)++];
        if (!AFTER(at, "[") || !price(lane, at, &level->px) || !AFTER(at, ",")
            || !size(lane, at, &level->sz) || !AFTER(at, "]"))
            return false;
    } while (AFTER(at, ","));
    return AFTER(at, "]");
}

static inline PyObject *pair_of(PyObject *first, PyObject *second) {
    PyObject *pair = PyTuple_New(2);
    if (pair != NULL) {
        PyTuple_SET_ITEM(pair, 0, Py_NewRef(first));
        PyTuple_SET_ITEM(pair, 1, Py_NewRef(second));
        PyObject_GC_UnTrack(pair); /* numbers have no cycles: nothing for the collector */
    }
    return pair;
}

/* The event, and what else has been told: a list of events, or None. */
static PyObject *listed(Lane *lane, PyObject *event, PyObject *told) {
    PyObject *made = PyList_New(1);
    if (made == NULL)
        return NULL;
    PyList_SET_ITEM(made, 0, Py_NewRef(event));
    if (PyList_Check(told) && PyList_GET_SIZE(told)) {
        PyObject *counted = PyObject_CallOneArg(lane->pass_on, told);
        if (counted == NULL || PyList_SetSlice(made, 1, 1, told) < 0)
            Py_CLEAR(made);
        Py_XDECREF(counted);
    }
    return made;
}

/* --- one kind each: an event, None for what does not fit, NULL with an error ------------------- */

/* `SymbolFeed.on_quote`. */
static PyObject *quoted(Lane *lane, Cursor *at, int64_t recv_ms) {
    int64_t last, known, px[2], sz[2];
    if (!AFTER(at, "\"u\":") || !natural(at, COUNT_MAX - 1, &last) || !AFTER(at, ",\"s\":\"")
        || !own(lane, at) || !AFTER(at, "\",\"b\":") || !price(lane, at, &px[0])
        || !AFTER(at, ",\"B\":") || !size(lane, at, &sz[0]) || !AFTER(at, ",\"a\":")
        || !price(lane, at, &px[1]) || !AFTER(at, ",\"A\":") || !size(lane, at, &sz[1])
        || !ends(at))
        Py_RETURN_NONE;
    if (!number(lane->feed, s_quote_id, &known))
        return PyErr_Occurred() ? NULL : Py_NewRef(Py_None);
    if (last <= known)
        return PyList_New(0);

    PyObject *seq = PyLong_FromLongLong(last), *now = PyLong_FromLongLong(recv_ms);
    PyObject *event = PyObject_CallNoArgs(lane->copy_event);
    PyObject *quote = PyObject_CallNoArgs(lane->copy_quote);
    PyObject *top = PyTuple_New(4), *made = NULL;
    if (seq == NULL || now == NULL || event == NULL
        || quote == NULL || top == NULL)
        goto done;
    for (int n = 0; n < 2; n++) {
        PyObject *at_px = PyLong_FromLongLong(px[n]), *at_sz = PyLong_FromLongLong(sz[n]);
        PyTuple_SET_ITEM(top, 2 * n, at_px);
        PyTuple_SET_ITEM(top, 2 * n + 1, at_sz);
        if (at_px == NULL || at_sz == NULL)
            goto done;
    }
    if (PyObject_SetAttr(lane->feed, s_quote_id, seq) < 0 || !passed(lane))
        goto done;
    for (size_t n = 0; n < 4; n++)
        put(quote, &lane->quote_fields, n, Py_NewRef(PyTuple_GET_ITEM(top, n)));
    put(event, &lane->fields, TS_EVENT, Py_NewRef(now));
    put(event, &lane->fields, TS_RECV, Py_NewRef(now));
    put(event, &lane->fields, SEQ, Py_NewRef(seq));
    put(event, &lane->fields, TICKER_QUOTE, Py_NewRef(quote));
    PyObject *book_top = PyDict_GetItemWithError(lane->recent, seq); /* borrowed */
    PyObject *told = NULL;
    if (book_top != NULL) {
        int equal = PyObject_RichCompareBool(book_top, top, Py_EQ);
        if (equal >= 0)
            told = PyObject_CallMethodObjArgs(lane->depth, s_check, equal ? Py_True : Py_False, now,
                                              NULL);
    } else if (!PyErr_Occurred()) {
        PyObject *pair = pair_of(seq, top);
        told = pair == NULL ? NULL : PyObject_CallOneArg(lane->append, pair);
        Py_XDECREF(pair);
    }
    if (told == NULL)
        goto done;
    made = listed(lane, event, told);
    Py_DECREF(told);
done:
    Py_XDECREF(seq);
    Py_XDECREF(now);
    Py_XDECREF(event);
    Py_XDECREF(quote);
    Py_XDECREF(top);
    return made;
}

/* `SymbolFeed.on_trade`, of a trade whose id is the next. */
static PyObject *traded(Lane *lane, Cursor *at, int64_t recv_ms) {
    int64_t event_ms, id, px, sz, trade_ms, before;
    if (!AFTER(at, "\"e\":\"trade\",\"E\":") || !natural(at, MILLIS_MAX - 1, &event_ms)
        || !AFTER(at, ",\"s\":\"") || !own(lane, at) || !AFTER(at, "\",\"t\":")
        || !natural(at, COUNT_MAX - 1, &id) || !AFTER(at, ",\"p\":") || !price(lane, at, &px)
        || !AFTER(at, ",\"q\":") || !size(lane, at, &sz) || !AFTER(at, ",\"T\":")
        || !natural(at, MILLIS_MAX - 1, &trade_ms) || !AFTER(at, ",\"m\":"))
        Py_RETURN_NONE;
    bool sold = AFTER(at, "true");
    if ((!sold && !AFTER(at, "false")) || !AFTER(at, ",\"M\":")
        || (!AFTER(at, "true") && !AFTER(at, "false")) || !ends(at)
        || !credible(trade_ms, recv_ms))
        Py_RETURN_NONE;
    if (PyList_GET_SIZE(lane->waiting) || !number(lane->feed, s_trade_id, &before)
        || id != before + 1)
        return PyErr_Occurred() ? NULL : Py_NewRef(Py_None);

    char digits[DIGITS_MAX + 1];
    size_t length = (size_t)snprintf(digits, sizeof digits, "%lld", (long long)id);
    PyObject *name = PyUnicode_New((Py_ssize_t)(lane->prefix_length + length), 127);
    PyObject *event = PyObject_CallNoArgs(lane->copy_event), *made = NULL;
    if (name != NULL && event != NULL) {
        memcpy(PyUnicode_1BYTE_DATA(name), lane->prefix, lane->prefix_length);
        memcpy(PyUnicode_1BYTE_DATA(name) + lane->prefix_length, digits, length);
        if (give_number(lane->feed, s_trade_id, id)
            && give_number(lane->feed, s_trade_ms, trade_ms)
            && put_number(event, &lane->fields, TS_EVENT, trade_ms)
            && put_number(event, &lane->fields, TS_RECV, recv_ms)
            && put_number(event, &lane->fields, PX, px) && put_number(event, &lane->fields, SZ, sz)
            && put(event, &lane->fields, SIDE, Py_NewRef(sold ? s_sell : s_buy))
            && put(event, &lane->fields, EVENT_ID, Py_NewRef(name))
            && put_number(event, &lane->fields, TRADE_ID, id) && raise_count(lane->counts, s_trades)
            && passed(lane))
            made = listed(lane, event, Py_None);
    }
    Py_XDECREF(name);
    Py_XDECREF(event);
    return made;
}

/* A price that comes or goes: its place among the prices as they were. */
typedef struct {
    Py_ssize_t place;
    PyObject *px; /* NULL: the one at that place goes */
} Move;

/* From where on `px` stands or would stand, looked for from `low` on: it is mostly near. */
static Py_ssize_t place_from(PyObject *prices, Py_ssize_t low, int64_t px) {
    Py_ssize_t count = PyList_GET_SIZE(prices), step = 1, high = low;
    while (high < count && as_int64(PyList_GET_ITEM(prices, high)) < px) {
        low = high + 1;
        high += step;
        step *= 2;
    }
    if (high > count)
        high = count;
    while (low < high) {
        Py_ssize_t middle = (low + high) / 2;
        if (as_int64(PyList_GET_ITEM(prices, middle)) < px)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

/* Let prices come and go, all at once: a book's side has thousands, and each move alone would shift
 * most of them. `moves` are in the order of their places. False with an error.
 */
static bool shift(PyObject *prices, const Move *moves, size_t count) {
    Py_ssize_t before = PyList_GET_SIZE(prices), first = moves[0].place, growth = 0, gone = 0;
    Py_ssize_t last = moves[count - 1].place + (moves[count - 1].px == NULL);
    for (size_t n = 0; n < count; n++) {
        growth += moves[n].px != NULL ? 1 : -1;
        gone += moves[n].px == NULL;
    }
    size_t each = sizeof(PyObject *);
    PyObject **old = PyMem_Malloc((size_t)(last - first + gone + 1) * each);
    if (old == NULL) {
        PyErr_NoMemory();
        return false;
    }
    PyObject **left = old + (last - first); /* those that go */
    for (Py_ssize_t n = 0; n < growth; n++) {
        if (PyList_Append(prices, Py_None) < 0) { /* a slot, overwritten below */
            PyList_SetSlice(prices, before, before + n, NULL);
            PyMem_Free(old);
            return false;
        }
    }
    PyObject **items = ((PyListObject *)prices)->ob_item;
    for (Py_ssize_t n = 0; n < growth; n++)
        Py_DECREF(Py_None);
    memcpy(old, items + first, (size_t)(last - first) * each);
    memmove(items + last + growth, items + last, (size_t)(before - last) * each);
    PyObject **to = items + first, **from = old;
    gone = 0;
    for (size_t n = 0; n < count; n++) {
        size_t stay = (size_t)(moves[n].place - first - (from - old));
        memcpy(to, from, stay * each);
        to += stay;
        from += stay;
        if (moves[n].px != NULL)
            *to++ = Py_NewRef(moves[n].px);
        else
            left[gone++] = *from++;
    }
    /* The list is shortened over as many of those that go, which it then gives up itself. */
    bool well = true;
    if (growth < 0) {
        gone += growth;
        memcpy(items + before + growth, left + gone, (size_t)-growth * each);
        well = PyList_SetSlice(prices, before + growth, before, NULL) == 0;
    }
    while (gone > 0)
        Py_DECREF(left[--gone]);
    PyMem_Free(old);
    return well;
}

/* `Ladder.update`; the levels as a list of pairs, or NULL with an error.
 *
 * `moves` has room for as many. Levels in the order of their prices, `step` 1 or -1, are taken all at
 * once; others one by one, as a price may be there twice.
 */
static PyObject *update(Side *side, const Level *levels, size_t count, Move *moves, int step) {
    PyObject *pairs = PyList_New((Py_ssize_t)count);
    bool well = pairs != NULL, in_order = true;
    for (size_t n = 1; n < count && in_order; n++)
        in_order = step * (levels[n].px - levels[n - 1].px) > 0;
    if (!in_order || step > 0)
        step = 1;
    size_t moved = 0, n = step > 0 ? 0 : count - 1;
    Py_ssize_t place = 0;
    for (size_t done = 0; well && done < count; done++, n += (size_t)step) {
        PyObject *px = PyLong_FromLongLong(levels[n].px), *sz = PyLong_FromLongLong(levels[n].sz);
        PyObject *pair = px == NULL || sz == NULL ? NULL : pair_of(px, sz);
        Py_ssize_t known = PyDict_GET_SIZE(side->sizes);
        int changes = 0; /* whether a price comes or goes */
        if (pair == NULL) {
            well = false;
        } else if (levels[n].sz) {
            well = PyDict_SetItem(side->sizes, px, sz) == 0;
            changes = PyDict_GET_SIZE(side->sizes) != known;
        } else {
            changes = PyDict_Contains(side->sizes, px);
            well = changes == 0 || (changes > 0 && PyDict_DelItem(side->sizes, px) == 0);
        }
        if (well && changes) {
            place = place_from(side->prices, in_order ? place : 0, levels[n].px);
            moves[moved++] = (Move){place, levels[n].sz ? px : NULL};
            if (!in_order) {
                well = shift(side->prices, moves, moved);
                moved = 0;
            }
        }
        if (pair != NULL)
            PyList_SET_ITEM(pairs, (Py_ssize_t)n, pair);
        Py_XDECREF(px); /* the pair has it */
        Py_XDECREF(sz);
    }
    if (well && moved)
        well = shift(side->prices, moves, moved);
    if (!well)
        Py_CLEAR(pairs);
    return pairs;
}

/* The best level of each side as `WireBook.top` has it; None while a side is empty. */
static PyObject *top_of(const Side *bids, const Side *asks, bool *crossed) {
    Py_ssize_t count = PyList_GET_SIZE(bids->prices);
    *crossed = false;
    if (!count || !PyList_GET_SIZE(asks->prices))
        Py_RETURN_NONE;
    PyObject *bid = PyList_GET_ITEM(bids->prices, count - 1);
    PyObject *ask = PyList_GET_ITEM(asks->prices, 0);
    *crossed = as_int64(bid) >= as_int64(ask);
    PyObject *bid_sz = PyDict_GetItemWithError(bids->sizes, bid);
    PyObject *ask_sz = PyDict_GetItemWithError(asks->sizes, ask);
    return bid_sz == NULL || ask_sz == NULL ? NULL : PyTuple_Pack(4, bid, bid_sz, ask, ask_sz);
}

/* A book, with its levels at hand. */
typedef struct {
    PyObject *book;
    Side bids, asks;
} Book;

static void close_book(Book *book) {
    PyObject *owned[]
        = {book->book, book->bids.sizes, book->bids.prices, book->asks.sizes, book->asks.prices};
    for (size_t n = 0; n < sizeof owned / sizeof *owned; n++)
        Py_XDECREF(owned[n]);
}

/* Whether the book is in sync, in the market's units, and `first` to `last` is what comes next. */
static bool follows(Lane *lane, Book *book, int64_t first, int64_t last) {
    int64_t seq, px_e, sz_e;
    PyObject *synced = PyObject_GetAttr(lane->depth, s_synced);
    PyObject *since = PyObject_GetAttr(lane->depth, s_since);
    Py_XDECREF(synced);
    Py_XDECREF(since);
    if (synced != Py_True || since != Py_None || PyList_GET_SIZE(lane->waiting))
        return false;
    book->book = PyObject_GetAttr(lane->depth, s_book);
    return book->book != NULL && book->book != Py_None && number(book->book, s_seq, &seq)
           && number(book->book, s_px_e, &px_e) && number(book->book, s_sz_e, &sz_e)
           && px_e == lane->px_e && sz_e == lane->sz_e && first <= last && last > seq
           && first <= seq + 1 && side_of(book->book, s_bids, s_sizes, s_prices, &book->bids)
           && side_of(book->book, s_asks, s_sizes, s_prices, &book->asks);
}

/* `DepthFeed._apply`, of levels that have been read. */
static PyObject *applied(Lane *lane, Book *book, PyObject *frame, const Level *levels, size_t bids,
                         size_t count, int64_t event_ms, int64_t last, int64_t recv_ms) {
    bool crossed = false;
    PyObject *made = NULL, *event = NULL, *top = NULL, *told = NULL;
    PyObject *seq = PyLong_FromLongLong(last), *now = PyLong_FromLongLong(recv_ms);
    Move *moves = PyMem_Malloc((count + 1) * sizeof(Move));
    PyObject *changed_bids = NULL, *changed_asks = NULL;
    if (moves == NULL)
        PyErr_NoMemory();
    else if ((changed_bids = update(&book->bids, levels, bids, moves, -1)) != NULL)
        changed_asks = update(&book->asks, levels + bids, count - bids, moves, 1);
    PyMem_Free(moves);
    if (seq == NULL || now == NULL || changed_asks == NULL
        || PyObject_SetAttr(book->book, s_seq, seq) < 0
        || !give_number(lane->depth, s_progress_ms, event_ms)
        || (top = top_of(&book->bids, &book->asks, &crossed)) == NULL)
        goto done;
    if (crossed) {
        PyObject *msg = PyObject_CallOneArg(lane->again, frame);
        if (msg != NULL)
            told = PyObject_CallMethodObjArgs(lane->depth, s_crossed, book->book, msg, now, NULL);
        Py_XDECREF(msg);
        if (told != NULL)
            made = PyObject_CallOneArg(lane->pass_on, told);
        goto done;
    }
    if ((event = PyObject_CallNoArgs(lane->copy_event)) == NULL
        || !put_number(event, &lane->fields, TS_EVENT, event_ms) || !passed(lane))
        goto done;
    put(event, &lane->fields, TS_RECV, Py_NewRef(now));
    put(event, &lane->fields, SEQ, Py_NewRef(seq));
    put(event, &lane->fields, BIDS, Py_NewRef(changed_bids));
    put(event, &lane->fields, ASKS, Py_NewRef(changed_asks));
    PyObject *verdict = PyObject_CallMethodObjArgs(lane->tops, s_book, seq, top, NULL);
    if (verdict == NULL)
        goto done;
    told = verdict == Py_None
               ? Py_NewRef(Py_None)
               : PyObject_CallMethodObjArgs(lane->depth, s_check, verdict, now, NULL);
    Py_DECREF(verdict);
    if (told != NULL)
        made = listed(lane, event, told);
done:
    Py_XDECREF(seq);
    Py_XDECREF(now);
    Py_XDECREF(changed_bids);
    Py_XDECREF(changed_asks);
    Py_XDECREF(event);
    Py_XDECREF(top);
    Py_XDECREF(told);
    return made;
}

/* `SymbolFeed.on_depth`, of a diff that continues the book. */
static PyObject *changed(Lane *lane, Cursor *at, PyObject *frame, int64_t recv_ms) {
    int64_t event_ms, first, last;
    if (!AFTER(at, "\"e\":\"depthUpdate\",\"E\":") || !natural(at, MILLIS_MAX - 1, &event_ms)
        || !AFTER(at, ",\"s\":\"") || !own(lane, at) || !AFTER(at, "\",\"U\":")
        || !natural(at, COUNT_MAX - 1, &first) || !AFTER(at, ",\"u\":")
        || !natural(at, COUNT_MAX - 1, &last) || !AFTER(at, ",\"b\":[")
        || !credible(event_ms, recv_ms))
        Py_RETURN_NONE;
    Level few[LEVELS_FIRST], *levels = few;
    size_t room = LEVELS_FIRST, count = 0, bids = 0;
    PyObject *made = NULL;
    bool fits = read_levels(lane, at, &levels, few, &room, &count);
    if (fits) {
        bids = count;
        fits = AFTER(at, ",\"a\":[") && read_levels(lane, at, &levels, few, &room, &count)
               && ends(at);
    }
    if (fits) {
        Book book;
        memset(&book, 0, sizeof book);
        fits = follows(lane, &book, first, last);
        if (fits)
            made = applied(lane, &book, frame, levels, bids, count, event_ms, last, recv_ms);
        close_book(&book);
    }
    if (levels != few)
        PyMem_Free(levels);
    return fits || PyErr_Occurred() ? made : Py_NewRef(Py_None);
}

/* --- the lane ---------------------------------------------------------------------------------- */

/* An attribute's text; false where it is none, not ASCII or too long. */
static bool text_of(PyObject *owner, PyObject *name, char *text, size_t *length) {
    PyObject *found = PyObject_GetAttr(owner, name);
    bool fits = found != NULL && PyUnicode_Check(found) && PyUnicode_IS_ASCII(found)
                && PyUnicode_GET_LENGTH(found) < NAME_ROOM;
    if (fits) {
        *length = (size_t)PyUnicode_GET_LENGTH(found);
        memcpy(text, PyUnicode_1BYTE_DATA(found), *length);
    }
    Py_XDECREF(found);
    return fits;
}

static PyObject *attribute_of(PyObject *owner, PyObject *name, PyObject *its) {
    PyObject *middle = PyObject_GetAttr(owner, name);
    PyObject *found = middle == NULL ? NULL : PyObject_GetAttr(middle, its);
    Py_XDECREF(middle);
    return found;
}

static PyObject *waiting_of(PyObject *owner) {
    PyObject *found = attribute_of(owner, s_ahead, s_messages);
    if (found != NULL && !PyList_CheckExact(found)) {
        PyErr_SetString(PyExc_TypeError, "what is ahead of its turn is no list");
        Py_CLEAR(found);
    }
    return found;
}

static int lane_init(Lane *lane, PyObject *args, PyObject *Py_UNUSED(kwargs)) {
    PyObject *feed, *event, *quote, *tag, *pass_on, *again;
    const char *kind;
    if (!PyArg_ParseTuple(args, "sOOOOOO", &kind, &feed, &event, &quote, &tag, &pass_on, &again))
        return -1;
    for (lane->kind = DEPTH; strcmp(kind_names[lane->kind], kind) != 0; lane->kind++)
        if (lane->kind == QUOTE) {
            PyErr_Format(PyExc_ValueError, "no lane for %s: expected depth, trade or bookTicker",
                         kind);
            return -1;
        }
    lane->feed = Py_NewRef(feed);
    lane->event = Py_NewRef(event);
    lane->tag = Py_NewRef(tag);
    lane->pass_on = Py_NewRef(pass_on);
    lane->again = Py_NewRef(again);
    if ((lane->market = PyObject_GetAttr(feed, s_market)) == NULL
        || (lane->depth = PyObject_GetAttr(feed, s_depth)) == NULL
        || (lane->counts = PyObject_GetAttr(lane->market, s_counts)) == NULL
        || (lane->events = PyObject_GetAttr(lane->counts, s_events)) == NULL
        || (lane->copy_event = PyObject_GetAttr(event, s_copy)) == NULL
        || (lane->copy_quote = PyObject_GetAttr(quote, s_copy)) == NULL
        || (lane->tops = PyObject_GetAttr(lane->depth, s_tops)) == NULL
        || (lane->recent = PyObject_GetAttr(lane->tops, s_recent)) == NULL
        || (lane->append = attribute_of(lane->tops, s_pending, s_append)) == NULL
        || (lane->waiting = waiting_of(lane->kind == DEPTH ? lane->depth : feed)) == NULL
        || !find(Py_TYPE(event), event_fields[lane->kind], &lane->fields)
        || !find(Py_TYPE(quote), quote_fields, &lane->quote_fields))
        return -1;
    if (!text_of(lane->market, s_venue_symbol, lane->symbol, &lane->symbol_length)
        || !text_of(feed, s_prefix, lane->prefix, &lane->prefix_length)
        || !PyDict_CheckExact(lane->events) || !PyDict_CheckExact(lane->recent)) {
        if (!PyErr_Occurred())
            PyErr_SetString(PyExc_ValueError, "a symbol that is not ASCII, or too long");
        return -1;
    }
    return 0;
}

static PyObject **owned_by(Lane *lane, size_t n) {
    PyObject **owned[] = {&lane->feed,   &lane->market,     &lane->depth,      &lane->counts,
                          &lane->events, &lane->copy_event, &lane->copy_quote, &lane->event,
                          &lane->waiting, &lane->tag,    &lane->pass_on,    &lane->again,      &lane->tops,
                          &lane->recent, &lane->append,     &lane->px,         &lane->sz};
    return n < sizeof owned / sizeof *owned ? owned[n] : NULL;
}

static int lane_traverse(Lane *lane, visitproc visit, void *arg) {
    PyObject **owned;
    for (size_t n = 0; (owned = owned_by(lane, n)) != NULL; n++)
        Py_VISIT(*owned);
    return 0;
}

static int lane_clear(Lane *lane) {
    PyObject **owned;
    for (size_t n = 0; (owned = owned_by(lane, n)) != NULL; n++)
        Py_CLEAR(*owned);
    return 0;
}

static void lane_dealloc(Lane *lane) {
    PyObject_GC_UnTrack(lane);
    lane_clear(lane);
    Py_TYPE(lane)->tp_free((PyObject *)lane);
}

static PyTypeObject lane_type = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "streams.venues.binance._wire.Lane",
    .tp_doc = PyDoc_STR("Lane(kind, feed, event, quote, tag, pass_on, again): one stream's."),
    .tp_basicsize = sizeof(Lane),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC,
    .tp_new = PyType_GenericNew,
    .tp_init = (initproc)lane_init,
    .tp_dealloc = (destructor)lane_dealloc,
    .tp_traverse = (traverseproc)lane_traverse,
    .tp_clear = (inquiry)lane_clear,
};

PyDoc_STRVAR(take_doc, "take(lanes, frame, ts_recv_ms)\n--\n\n"
    "The events of a frame, by the lane of its stream's name; None, and nothing has changed, where\n"
    "the frame is not plainly what comes next.");

static PyObject *take(PyObject *Py_UNUSED(module), PyObject *const *args, Py_ssize_t nargs) {
    if (nargs != 3 || !PyDict_CheckExact(args[0]) || !PyLong_CheckExact(args[2])) {
        PyErr_SetString(PyExc_TypeError, "take(dict of lanes, frame, ts_recv_ms)");
        return NULL;
    }
    PyObject *frame = args[1];
    Cursor at;
    Py_ssize_t length;
    if (PyUnicode_CheckExact(frame) && PyUnicode_IS_COMPACT_ASCII(frame)) {
        at.at = (const char *)PyUnicode_1BYTE_DATA(frame);
        length = PyUnicode_GET_LENGTH(frame);
    } else if (PyBytes_CheckExact(frame)) {
        at.at = PyBytes_AS_STRING(frame);
        length = PyBytes_GET_SIZE(frame);
    } else {
        Py_RETURN_NONE;
    }
    at.end = at.at + length;
    int overflow;
    int64_t recv_ms = PyLong_AsLongLongAndOverflow(args[2], &overflow);
    if (overflow || recv_ms < 0 || recv_ms >= MILLIS_MAX || !AFTER(&at, "{\"stream\":\""))
        Py_RETURN_NONE;
    const char *name = at.at;
    size_t letters = 0, left = (size_t)(at.end - at.at);
    while (letters < left && letters < NAME_ROOM && (signed char)name[letters] > '"')
        letters++;
    at.at += letters;
    if (!AFTER(&at, "\",\"data\":{"))
        Py_RETURN_NONE;
    PyObject *key = PyUnicode_FromStringAndSize(name, (Py_ssize_t)letters);
    if (key == NULL)
        return NULL;
    PyObject *found = PyDict_GetItemWithError(args[0], key); /* borrowed */
    Py_DECREF(key);
    if (found == NULL || !Py_IS_TYPE(found, &lane_type))
        return PyErr_Occurred() ? NULL : Py_NewRef(Py_None);
    Lane *lane = (Lane *)Py_NewRef(found);
    PyObject *made;
    if (!scaled(lane))
        made = PyErr_Occurred() ? NULL : Py_NewRef(Py_None);
    else if (lane->kind == QUOTE)
        made = quoted(lane, &at, recv_ms);
    else if (lane->kind == TRADE)
        made = traded(lane, &at, recv_ms);
    else
        made = changed(lane, &at, frame, recv_ms);
    Py_DECREF(lane);
    return made;
}

static PyMethodDef methods[] = {
    {"take", (PyCFunction)(void (*)(void))take, METH_FASTCALL, take_doc},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT, "streams.venues.binance._wire", "Plain frames, read at once.", -1, methods,
    NULL, NULL, NULL, NULL,
};

PyMODINIT_FUNC PyInit__wire(void) {
    const struct {
        PyObject **name;
        const char *text;
    } names[] = {
        {&s_market, "market"},
        {&s_depth, "depth"},
        {&s_counts, "counts"},
        {&s_events, "events"},
        {&s_px, "px"},
        {&s_sz, "sz"},
        {&s_exponent, "exponent"},
        {&s_px_e, "px_e"},
        {&s_sz_e, "sz_e"},
        {&s_quote_id, "_quote_id"},
        {&s_trade_id, "_trade_id"},
        {&s_trade_ms, "_trade_ms"},
        {&s_synced, "synced"},
        {&s_since, "_since"},
        {&s_ahead, "_ahead"},
        {&s_messages, "_messages"},
        {&s_book, "book"},
        {&s_bids, "bids"},
        {&s_asks, "asks"},
        {&s_prices, "prices"},
        {&s_sizes, "sizes"},
        {&s_seq, "seq"},
        {&s_tops, "_tops"},
        {&s_recent, "_recent"},
        {&s_pending, "_pending"},
        {&s_append, "append"},
        {&s_check, "_check"},
        {&s_progress_ms, "_progress_ms"},
        {&s_crossed, "_crossed"},
        {&s_buy, "buy"},
        {&s_sell, "sell"},
        {&s_trades, "trades"},
        {&s_copy, "__copy__"},
        {&s_venue_symbol, "venue_symbol"},
        {&s_prefix, "_trade_prefix"},
    };
    for (size_t n = 0; n < sizeof names / sizeof *names; n++)
        if ((*names[n].name = PyUnicode_InternFromString(names[n].text)) == NULL)
            return NULL;
    if ((one = PyLong_FromLong(1)) == NULL || PyType_Ready(&lane_type) < 0)
        return NULL;
    PyObject *module = PyModule_Create(&definition);
    if (module != NULL && PyModule_AddObjectRef(module, "Lane", (PyObject *)&lane_type) < 0)
        Py_CLEAR(module);
    return module;
}
