import { constants, createPrivateKey, type KeyObject, sign } from 'node:crypto'

/**
 * The signed JWT by which NetSuite hands out access tokens: OAuth 2.0 client credentials flow (docs.oracle.com, "The Request Token
 * Structure", read 2026-11-24). The algorithm follows from the key: PS256 for RSA, ES256/384/512 for elliptic curves.
 */

/** NetSuite allows an hour at most. */
const LIFETIME_S = 300

export interface ClientAssertion {
  readonly clientId: string
  readonly certificateId: string
  readonly tokenUrl: string
  /** PEM. */
  readonly privateKey: string
  readonly at: Date
}

/** The private key cannot be used. */
export class UnusableKey extends Error {
  override readonly name = 'UnusableKey'
}

/** @throws UnusableKey */
export function clientAssertion({
  clientId,
  certificateId,
  tokenUrl,
  privateKey,
  at,
}: ClientAssertion): string {
  const key = keyOf(privateKey)
  const { algorithm, hash } = algorithmOf(key)
  const issuedAt = Math.floor(at.getTime() / 1000)
  const content = [
    { typ: 'JWT', alg: algorithm, kid: certificateId },
    { iss: clientId, scope: 'rest_webservices', aud: tokenUrl, iat: issuedAt, exp: issuedAt + LIFETIME_S },
  ]
    .map((part) => Buffer.from(JSON.stringify(part)).toString('base64url'))
    .join('.')
  const signature = sign(
    hash,
    Buffer.from(content),
    key.asymmetricKeyType === 'ec'
      ? { key, dsaEncoding: 'ieee-p1363' }
      : { key, padding: constants.RSA_PKCS1_PSS_PADDING, saltLength: constants.RSA_PSS_SALTLEN_DIGEST },
  )
  return `${content}.${signature.toString('base64url')}`
}

function keyOf(pem: string): KeyObject {
  try {
    return createPrivateKey(pem)
  } catch (cause) {
    throw new UnusableKey('The private_key of NetSuite is no private key in PEM.', { cause })
  }
}

/** RFC 7518, 3.4 and 3.5. */
function algorithmOf(key: KeyObject): { readonly algorithm: string; readonly hash: string } {
  if (key.asymmetricKeyType === 'rsa') return { algorithm: 'PS256', hash: 'sha256' }
  switch (key.asymmetricKeyDetails?.namedCurve) {
    case 'prime256v1':
      return { algorithm: 'ES256', hash: 'sha256' }
    case 'secp384r1':
      return { algorithm: 'ES384', hash: 'sha384' }
    case 'secp521r1':
      return { algorithm: 'ES512', hash: 'sha512' }
    default:
      throw new UnusableKey('NetSuite takes keys of RSA, or of the curves P-256, P-384 and P-521.')
  }
}
