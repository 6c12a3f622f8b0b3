/* types.c - the types that every server has, under the same OID: what their bytes are.
 *
 * From pg_type of PostgreSQL 15 and 18, which agree. Ordered by OID: it is searched by halves. A
 * type that is not here is a user's (enum, composite, extension), whose OID differs from server to
 * server.
 */
#include <string.h>

#include "puff/postgres.h"

/* oid, its array, its element, kind, name */
static const puff_pg_type types[] = {
    {16, 1000, 0, PUFF_PG_BOOL, "bool"},
    {17, 1001, 0, PUFF_PG_BYTEA, "bytea"},
    {18, 1002, 0, PUFF_PG_CHAR, "char"},
    {19, 1003, 0, PUFF_PG_TEXT, "name"},
    {20, 1016, 0, PUFF_PG_INT8, "int8"},
    {21, 1005, 0, PUFF_PG_INT2, "int2"},
    {22, 1006, 21, PUFF_PG_ARRAY, "int2vector"},
    {23, 1007, 0, PUFF_PG_INT4, "int4"},
    {24, 1008, 0, PUFF_PG_UINT4, "regproc"},
    {25, 1009, 0, PUFF_PG_TEXT, "text"},
    {26, 1028, 0, PUFF_PG_UINT4, "oid"},
    {27, 1010, 0, PUFF_PG_TID, "tid"},
    {28, 1011, 0, PUFF_PG_UINT4, "xid"},
    {29, 1012, 0, PUFF_PG_UINT4, "cid"},
    {30, 1013, 26, PUFF_PG_ARRAY, "oidvector"},
    {114, 199, 0, PUFF_PG_JSON, "json"},
    {142, 143, 0, PUFF_PG_TEXT, "xml"},
    {143, 0, 142, PUFF_PG_ARRAY, "_xml"},
    {194, 0, 0, PUFF_PG_TEXT, "pg_node_tree"},
    {199, 0, 114, PUFF_PG_ARRAY, "_json"},
    {271, 0, 5069, PUFF_PG_ARRAY, "_xid8"},
    {600, 1017, 0, PUFF_PG_POINT, "point"},
    {601, 1018, 0, PUFF_PG_LSEG, "lseg"},
    {602, 1019, 0, PUFF_PG_PATH, "path"},
    {603, 1020, 0, PUFF_PG_BOX, "box"},
    {604, 1027, 0, PUFF_PG_POLYGON, "polygon"},
    {628, 629, 0, PUFF_PG_LINE, "line"},
    {629, 0, 628, PUFF_PG_ARRAY, "_line"},
    {650, 651, 0, PUFF_PG_INET, "cidr"},
    {651, 0, 650, PUFF_PG_ARRAY, "_cidr"},
    {700, 1021, 0, PUFF_PG_FLOAT4, "float4"},
    {701, 1022, 0, PUFF_PG_FLOAT8, "float8"},
    {705, 0, 0, PUFF_PG_TEXT, "unknown"},
    {718, 719, 0, PUFF_PG_CIRCLE, "circle"},
    {719, 0, 718, PUFF_PG_ARRAY, "_circle"},
    {774, 775, 0, PUFF_PG_MACADDR, "macaddr8"},
    {775, 0, 774, PUFF_PG_ARRAY, "_macaddr8"},
    {790, 791, 0, PUFF_PG_MONEY, "money"},
    {791, 0, 790, PUFF_PG_ARRAY, "_money"},
    {829, 1040, 0, PUFF_PG_MACADDR, "macaddr"},
    {869, 1041, 0, PUFF_PG_INET, "inet"},
    {1000, 0, 16, PUFF_PG_ARRAY, "_bool"},
    {1001, 0, 17, PUFF_PG_ARRAY, "_bytea"},
    {1002, 0, 18, PUFF_PG_ARRAY, "_char"},
    {1003, 0, 19, PUFF_PG_ARRAY, "_name"},
    {1005, 0, 21, PUFF_PG_ARRAY, "_int2"},
    {1006, 0, 22, PUFF_PG_ARRAY, "_int2vector"},
    {1007, 0, 23, PUFF_PG_ARRAY, "_int4"},
    {1008, 0, 24, PUFF_PG_ARRAY, "_regproc"},
    {1009, 0, 25, PUFF_PG_ARRAY, "_text"},
    {1010, 0, 27, PUFF_PG_ARRAY, "_tid"},
    {1011, 0, 28, PUFF_PG_ARRAY, "_xid"},
    {1012, 0, 29, PUFF_PG_ARRAY, "_cid"},
    {1013, 0, 30, PUFF_PG_ARRAY, "_oidvector"},
    {1014, 0, 1042, PUFF_PG_ARRAY, "_bpchar"},
    {1015, 0, 1043, PUFF_PG_ARRAY, "_varchar"},
    {1016, 0, 20, PUFF_PG_ARRAY, "_int8"},
    {1017, 0, 600, PUFF_PG_ARRAY, "_point"},
    {1018, 0, 601, PUFF_PG_ARRAY, "_lseg"},
    {1019, 0, 602, PUFF_PG_ARRAY, "_path"},
    {1020, 0, 603, PUFF_PG_ARRAY, "_box"},
    {1021, 0, 700, PUFF_PG_ARRAY, "_float4"},
    {1022, 0, 701, PUFF_PG_ARRAY, "_float8"},
    {1027, 0, 604, PUFF_PG_ARRAY, "_polygon"},
    {1028, 0, 26, PUFF_PG_ARRAY, "_oid"},
    {1033, 1034, 0, PUFF_PG_TEXT_ONLY, "aclitem"},
    {1034, 0, 1033, PUFF_PG_ARRAY, "_aclitem"},
    {1040, 0, 829, PUFF_PG_ARRAY, "_macaddr"},
    {1041, 0, 869, PUFF_PG_ARRAY, "_inet"},
    {1042, 1014, 0, PUFF_PG_TEXT, "bpchar"},
    {1043, 1015, 0, PUFF_PG_TEXT, "varchar"},
    {1082, 1182, 0, PUFF_PG_DATE, "date"},
    {1083, 1183, 0, PUFF_PG_TIME, "time"},
    {1114, 1115, 0, PUFF_PG_TIMESTAMP, "timestamp"},
    {1115, 0, 1114, PUFF_PG_ARRAY, "_timestamp"},
    {1182, 0, 1082, PUFF_PG_ARRAY, "_date"},
    {1183, 0, 1083, PUFF_PG_ARRAY, "_time"},
    {1184, 1185, 0, PUFF_PG_TIMESTAMPTZ, "timestamptz"},
    {1185, 0, 1184, PUFF_PG_ARRAY, "_timestamptz"},
    {1186, 1187, 0, PUFF_PG_INTERVAL, "interval"},
    {1187, 0, 1186, PUFF_PG_ARRAY, "_interval"},
    {1231, 0, 1700, PUFF_PG_ARRAY, "_numeric"},
    {1263, 0, 2275, PUFF_PG_ARRAY, "_cstring"},
    {1266, 1270, 0, PUFF_PG_TIMETZ, "timetz"},
    {1270, 0, 1266, PUFF_PG_ARRAY, "_timetz"},
    {1560, 1561, 0, PUFF_PG_BIT, "bit"},
    {1561, 0, 1560, PUFF_PG_ARRAY, "_bit"},
    {1562, 1563, 0, PUFF_PG_BIT, "varbit"},
    {1563, 0, 1562, PUFF_PG_ARRAY, "_varbit"},
    {1700, 1231, 0, PUFF_PG_NUMERIC, "numeric"},
    {1790, 2201, 0, PUFF_PG_TEXT, "refcursor"},
    {2201, 0, 1790, PUFF_PG_ARRAY, "_refcursor"},
    {2202, 2207, 0, PUFF_PG_UINT4, "regprocedure"},
    {2203, 2208, 0, PUFF_PG_UINT4, "regoper"},
    {2204, 2209, 0, PUFF_PG_UINT4, "regoperator"},
    {2205, 2210, 0, PUFF_PG_UINT4, "regclass"},
    {2206, 2211, 0, PUFF_PG_UINT4, "regtype"},
    {2207, 0, 2202, PUFF_PG_ARRAY, "_regprocedure"},
    {2208, 0, 2203, PUFF_PG_ARRAY, "_regoper"},
    {2209, 0, 2204, PUFF_PG_ARRAY, "_regoperator"},
    {2210, 0, 2205, PUFF_PG_ARRAY, "_regclass"},
    {2211, 0, 2206, PUFF_PG_ARRAY, "_regtype"},
    {2249, 2287, 0, PUFF_PG_RECORD, "record"},
    {2275, 1263, 0, PUFF_PG_TEXT, "cstring"},
    {2278, 0, 0, PUFF_PG_VOID, "void"},
    {2287, 0, 2249, PUFF_PG_ARRAY, "_record"},
    {2949, 0, 2970, PUFF_PG_ARRAY, "_txid_snapshot"},
    {2950, 2951, 0, PUFF_PG_UUID, "uuid"},
    {2951, 0, 2950, PUFF_PG_ARRAY, "_uuid"},
    {2970, 2949, 0, PUFF_PG_SNAPSHOT, "txid_snapshot"},
    {3220, 3221, 0, PUFF_PG_UINT8, "pg_lsn"},
    {3221, 0, 3220, PUFF_PG_ARRAY, "_pg_lsn"},
    {3614, 3643, 0, PUFF_PG_TSVECTOR, "tsvector"},
    {3615, 3645, 0, PUFF_PG_TSQUERY, "tsquery"},
    {3642, 3644, 0, PUFF_PG_TEXT_ONLY, "gtsvector"},
    {3643, 0, 3614, PUFF_PG_ARRAY, "_tsvector"},
    {3644, 0, 3642, PUFF_PG_ARRAY, "_gtsvector"},
    {3645, 0, 3615, PUFF_PG_ARRAY, "_tsquery"},
    {3734, 3735, 0, PUFF_PG_UINT4, "regconfig"},
    {3735, 0, 3734, PUFF_PG_ARRAY, "_regconfig"},
    {3769, 3770, 0, PUFF_PG_UINT4, "regdictionary"},
    {3770, 0, 3769, PUFF_PG_ARRAY, "_regdictionary"},
    {3802, 3807, 0, PUFF_PG_JSONB, "jsonb"},
    {3807, 0, 3802, PUFF_PG_ARRAY, "_jsonb"},
    {3904, 3905, 23, PUFF_PG_RANGE, "int4range"},
    {3905, 0, 3904, PUFF_PG_ARRAY, "_int4range"},
    {3906, 3907, 1700, PUFF_PG_RANGE, "numrange"},
    {3907, 0, 3906, PUFF_PG_ARRAY, "_numrange"},
    {3908, 3909, 1114, PUFF_PG_RANGE, "tsrange"},
    {3909, 0, 3908, PUFF_PG_ARRAY, "_tsrange"},
    {3910, 3911, 1184, PUFF_PG_RANGE, "tstzrange"},
    {3911, 0, 3910, PUFF_PG_ARRAY, "_tstzrange"},
    {3912, 3913, 1082, PUFF_PG_RANGE, "daterange"},
    {3913, 0, 3912, PUFF_PG_ARRAY, "_daterange"},
    {3926, 3927, 20, PUFF_PG_RANGE, "int8range"},
    {3927, 0, 3926, PUFF_PG_ARRAY, "_int8range"},
    {4072, 4073, 0, PUFF_PG_JSONPATH, "jsonpath"},
    {4073, 0, 4072, PUFF_PG_ARRAY, "_jsonpath"},
    {4089, 4090, 0, PUFF_PG_UINT4, "regnamespace"},
    {4090, 0, 4089, PUFF_PG_ARRAY, "_regnamespace"},
    {4096, 4097, 0, PUFF_PG_UINT4, "regrole"},
    {4097, 0, 4096, PUFF_PG_ARRAY, "_regrole"},
    {4191, 4192, 0, PUFF_PG_UINT4, "regcollation"},
    {4192, 0, 4191, PUFF_PG_ARRAY, "_regcollation"},
    {4451, 6150, 3904, PUFF_PG_MULTIRANGE, "int4multirange"},
    {4532, 6151, 3906, PUFF_PG_MULTIRANGE, "nummultirange"},
    {4533, 6152, 3908, PUFF_PG_MULTIRANGE, "tsmultirange"},
    {4534, 6153, 3910, PUFF_PG_MULTIRANGE, "tstzmultirange"},
    {4535, 6155, 3912, PUFF_PG_MULTIRANGE, "datemultirange"},
    {4536, 6157, 3926, PUFF_PG_MULTIRANGE, "int8multirange"},
    {5038, 5039, 0, PUFF_PG_SNAPSHOT, "pg_snapshot"},
    {5039, 0, 5038, PUFF_PG_ARRAY, "_pg_snapshot"},
    {5069, 271, 0, PUFF_PG_UINT8, "xid8"},
    {6150, 0, 4451, PUFF_PG_ARRAY, "_int4multirange"},
    {6151, 0, 4532, PUFF_PG_ARRAY, "_nummultirange"},
    {6152, 0, 4533, PUFF_PG_ARRAY, "_tsmultirange"},
    {6153, 0, 4534, PUFF_PG_ARRAY, "_tstzmultirange"},
    {6155, 0, 4535, PUFF_PG_ARRAY, "_datemultirange"},
    {6157, 0, 4536, PUFF_PG_ARRAY, "_int8multirange"},
};

enum { N_TYPES = sizeof types / sizeof *types };

const puff_pg_type *puff_pg_types(size_t *n) {
    *n = N_TYPES;
    return types;
}

const puff_pg_type *puff_pg_type_by_oid(uint32_t oid) {
    size_t lo = 0, hi = N_TYPES;
    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;
        if (types[mid].oid == oid) return &types[mid];
        if (types[mid].oid < oid)
            lo = mid + 1;
        else
            hi = mid;
    }
    return NULL;
}

const puff_pg_type *puff_pg_type_by_name(const char *name) {
    for (size_t i = 0; i < N_TYPES; i++)
        if (strcmp(types[i].name, name) == 0) return &types[i];
    return NULL;
}
