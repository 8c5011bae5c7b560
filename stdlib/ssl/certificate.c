/* certificate.c: certificates as objects, with LuaSec's methods. */
/***
 * @class moonlet.ssl.Certificate
 * A certificate: of a peer, or from loadcertificate.  tostring() shows whose it is.
 */
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <string.h>
#include <time.h>

#include "tls.h"

struct certificate {
  X509 *x509;
  bool utf8;
};

static struct certificate *check(lua_State *L, int arg) {
  return luaL_checkudata(L, arg, CERTIFICATE_TYPE);
}

void certificate_push(lua_State *L, X509 *x509) {
  if (!x509) {
    lua_pushnil(L);
    return;
  }
  struct certificate *certificate = lua_newuserdatauv(L, sizeof *certificate, 0);
  *certificate = (struct certificate){.x509 = x509};
  luaL_setmetatable(L, CERTIFICATE_TYPE);
}

void certificate_push_string(lua_State *L, const ASN1_STRING *string, bool utf8) {
  unsigned char *text;
  int size = utf8 ? ASN1_STRING_to_UTF8(&text, string) : -1;
  if (size >= 0) {
    lua_pushlstring(L, (char *)text, (size_t)size);
    OPENSSL_free(text);
  } else {
    lua_pushlstring(L, (const char *)ASN1_STRING_get0_data(string),
                    (size_t)ASN1_STRING_length(string));
  }
}

/* Pushes what has been written to `bio`, which it frees; nil if that is nothing. */
static int push_bio(lua_State *L, BIO *bio) {
  char *data;
  long size = bio ? BIO_get_mem_data(bio, &data) : 0;
  if (size > 0)
    lua_pushlstring(L, data, (size_t)size);
  else
    lua_pushnil(L);
  BIO_free(bio);
  return 1;
}

/* certificate.load(pem) -> certificate | nil, message */
static int l_load(lua_State *L) {
  size_t size;
  const char *pem = luaL_checklstring(L, 1, &size);
  ERR_clear_error();
  BIO *bio = BIO_new_mem_buf(pem, (int)size);
  X509 *x509 = bio ? PEM_read_bio_X509(bio, NULL, NULL, NULL) : NULL;
  BIO_free(bio);
  if (!x509)
    return errors_push(L);
  certificate_push(L, x509);
  return 1;
}

/* ---- names ---- */

static int push_name(lua_State *L, const X509_NAME *name, bool utf8) {
  lua_newtable(L);
  for (int i = 0; i < X509_NAME_entry_count(name); i++) {
    const X509_NAME_ENTRY *entry = X509_NAME_get_entry(name, i);
    const ASN1_OBJECT *object = X509_NAME_ENTRY_get_object(entry);
    char oid[128];
    OBJ_obj2txt(oid, sizeof oid, object, 1);
    lua_createtable(L, 0, 3);
    lua_pushstring(L, oid);
    lua_setfield(L, -2, "oid");
    lua_pushstring(L, OBJ_nid2ln(OBJ_obj2nid(object)));
    lua_setfield(L, -2, "name");
    certificate_push_string(L, X509_NAME_ENTRY_get_data(entry), utf8);
    lua_setfield(L, -2, "value");
    lua_rawseti(L, -2, i + 1);
  }
  return 1;
}

/***
 * Certificate:subject(), Certificate:issuer(): whose it is, and who signed it.
 * @return table[]  # of { name, oid, value }, for example { name = "commonName", ... }
 */
static int l_subject(lua_State *L) {
  const struct certificate *certificate = check(L, 1);
  return push_name(L, X509_get_subject_name(certificate->x509), certificate->utf8);
}

static int l_issuer(lua_State *L) {
  const struct certificate *certificate = check(L, 1);
  return push_name(L, X509_get_issuer_name(certificate->x509), certificate->utf8);
}

/***
 * Certificate:extensions(): what it says beyond names and dates.
 * @return table  # oid -> { name = "...", value = "..." as text }; that of alternative names,
 *   "2.5.29.17", has lists dNSName, iPAddress, rfc822Name ... instead of a value
 */
static int l_extensions(lua_State *L) {
  const struct certificate *certificate = check(L, 1);
  extensions_push(L, certificate->x509, certificate->utf8);
  return 1;
}

/* ---- time ---- */

static int push_time(lua_State *L, const ASN1_TIME *when) {
  BIO *bio = BIO_new(BIO_s_mem());
  if (bio)
    ASN1_TIME_print(bio, when);
  return push_bio(L, bio);
}

/***
 * Certificate:notbefore(), Certificate:notafter(): from when and until when it is valid.
 * @return string  # such as "Nov 26 16:57:23 2026 GMT"
 */
static int l_notbefore(lua_State *L) {
  return push_time(L, X509_get0_notBefore(check(L, 1)->x509));
}

static int l_notafter(lua_State *L) { return push_time(L, X509_get0_notAfter(check(L, 1)->x509)); }

/***
 * Certificate:validat(time): whether it is valid then.
 * @param time integer  as os.time() gives it
 * @return boolean
 */
static int l_validat(lua_State *L) {
  const X509 *x509 = check(L, 1)->x509;
  time_t when = (time_t)luaL_checkinteger(L, 2);
  lua_pushboolean(L, ASN1_TIME_cmp_time_t(X509_get0_notBefore(x509), when) <= 0 &&
                         ASN1_TIME_cmp_time_t(X509_get0_notAfter(x509), when) >= 0);
  return 1;
}

/* ---- the rest of it ---- */

static int push_hex(lua_State *L, const unsigned char *data, size_t size, const char *format) {
  luaL_Buffer buffer;
  luaL_buffinit(L, &buffer);
  for (size_t i = 0; i < size; i++) {
    snprintf(luaL_prepbuffsize(&buffer, 3), 3, format, data[i]);
    luaL_addsize(&buffer, 2);
  }
  luaL_pushresult(&buffer);
  return 1;
}

/***
 * Certificate:serial(): its number.
 * @return string  # in hexadecimal digits
 */
static int l_serial(lua_State *L) {
  const ASN1_INTEGER *serial = X509_get0_serialNumber(check(L, 1)->x509);
  return push_hex(L, ASN1_STRING_get0_data(serial), (size_t)ASN1_STRING_length(serial), "%02X");
}

/***
 * Certificate:digest([algorithm]): the fingerprint.
 * @param algorithm? string  "sha1" unless given
 * @return string|nil # in hexadecimal digits
 * @return string # or that there is no such algorithm
 */
static int l_digest(lua_State *L) {
  const struct certificate *certificate = check(L, 1);
  const char *name = luaL_optstring(L, 2, "sha1");
  const EVP_MD *algorithm = EVP_get_digestbyname(name);
  unsigned char data[EVP_MAX_MD_SIZE];
  unsigned size;
  if (!algorithm) {
    lua_pushnil(L);
    lua_pushfstring(L, "digest algorithm not supported (%s)", name);
    return 2;
  }
  ERR_clear_error();
  if (X509_digest(certificate->x509, algorithm, data, &size) != 1)
    return errors_push(L);
  return push_hex(L, data, size, "%02x");
}

/***
 * Certificate:pem(): the certificate as text.
 * @return string
 */
static int l_pem(lua_State *L) {
  BIO *bio = BIO_new(BIO_s_mem());
  if (bio)
    PEM_write_bio_X509(bio, check(L, 1)->x509);
  return push_bio(L, bio);
}

/***
 * Certificate:pubkey(): its public key.
 * @return string pem # the key as text
 * @return string type # such as "RSA" or "EC"
 * @return integer bits
 */
static int l_pubkey(lua_State *L) {
  EVP_PKEY *key = X509_get0_pubkey(check(L, 1)->x509);
  if (!key)
    return luaL_pushfail(L), 1;
  BIO *bio = BIO_new(BIO_s_mem());
  if (bio)
    PEM_write_bio_PUBKEY(bio, key);
  push_bio(L, bio);
  lua_pushstring(L, EVP_PKEY_is_a(key, "RSA")   ? "RSA"
                    : EVP_PKEY_is_a(key, "DSA") ? "DSA"
                    : EVP_PKEY_is_a(key, "DH")  ? "DH"
                    : EVP_PKEY_is_a(key, "EC")  ? "EC"
                                                : EVP_PKEY_get0_type_name(key));
  lua_pushinteger(L, EVP_PKEY_get_bits(key));
  return 3;
}

/***
 * Certificate:getsignaturename(): how it was signed.
 * @return string # such as "ecdsa-with-SHA256"
 */
static int l_signature_name(lua_State *L) {
  lua_pushstring(L, OBJ_nid2sn(X509_get_signature_nid(check(L, 1)->x509)));
  return 1;
}

/***
 * Certificate:setencode(encoding): how texts in it are returned.
 * @param encoding "ai5"|"utf8"  "ai5", the default, is as they stand in it
 * @return boolean # whether the encoding is known
 */
static int l_setencode(lua_State *L) {
  struct certificate *certificate = check(L, 1);
  const char *name = luaL_checkstring(L, 2);
  bool utf8 = strcmp(name, "utf8") == 0, known = utf8 || strcmp(name, "ai5") == 0;
  if (known)
    certificate->utf8 = utf8;
  lua_pushboolean(L, known);
  return 1;
}

/* ---- verification ---- */

/* The certificates of the arguments after `first`, not referenced. */
static STACK_OF(X509) * collect(lua_State *L, int first) {
  STACK_OF(X509) *chain = sk_X509_new_null();
  for (int i = first; chain && i <= lua_gettop(L); i++)
    sk_X509_push(chain, check(L, i)->x509);
  return chain;
}

static int verify(X509 *x509, X509 *root, STACK_OF(X509) * chain) {
  X509_STORE *store = X509_STORE_new();
  X509_STORE_CTX *verification = X509_STORE_CTX_new();
  int result = X509_V_ERR_OUT_OF_MEM;
  if (store && verification && X509_STORE_add_cert(store, root) == 1 &&
      X509_STORE_CTX_init(verification, store, x509, chain) == 1)
    result =
        X509_verify_cert(verification) == 1 ? X509_V_OK : X509_STORE_CTX_get_error(verification);
  X509_STORE_CTX_free(verification);
  X509_STORE_free(store);
  return result;
}

/***
 * Certificate:issued(certificate [, ...]): whether this one, a root, has issued the other.
 * @param certificate moonlet.ssl.Certificate
 * @param ... moonlet.ssl.Certificate  those between the two
 * @return boolean # whether it has
 * @return string # after false: why not
 */
static int l_issued(lua_State *L) {
  X509 *root = check(L, 1)->x509, *x509 = check(L, 2)->x509;
  for (int i = 3; i <= lua_gettop(L); i++)
    check(L, i);
  STACK_OF(X509) *chain = collect(L, 3);
  ERR_clear_error();
  int result = verify(x509, root, chain);
  sk_X509_free(chain);
  lua_pushboolean(L, result == X509_V_OK);
  if (result == X509_V_OK)
    return 1;
  lua_pushstring(L, X509_verify_cert_error_string(result));
  return 2;
}

/* ---- life ---- */

static int l_gc(lua_State *L) {
  struct certificate *certificate = check(L, 1);
  X509_free(certificate->x509);
  certificate->x509 = NULL;
  return 0;
}

static int l_tostring(lua_State *L) {
  char name[256];
  const struct certificate *certificate = check(L, 1);
  X509_NAME_oneline(X509_get_subject_name(certificate->x509), name, sizeof name);
  lua_pushfstring(L, "X509 certificate: %p (%s)", certificate, name);
  return 1;
}

const luaL_Reg certificate_functions[] = {{"load", l_load}, {NULL, NULL}};

const luaL_Reg certificate_methods[] = {{"subject", l_subject},
                                        {"issuer", l_issuer},
                                        {"extensions", l_extensions},
                                        {"notbefore", l_notbefore},
                                        {"notafter", l_notafter},
                                        {"validat", l_validat},
                                        {"serial", l_serial},
                                        {"digest", l_digest},
                                        {"pem", l_pem},
                                        {"pubkey", l_pubkey},
                                        {"getsignaturename", l_signature_name},
                                        {"setencode", l_setencode},
                                        {"issued", l_issued},
                                        {"__gc", l_gc},
                                        {"__tostring", l_tostring},
                                        {NULL, NULL}};
