<#
.SYNOPSIS
Downloads an installer, proves where it comes from, runs it and removes it.
.DESCRIPTION
The proof is a checksum, or, for files that their vendor replaces under the same address, the vendor's signature.
.PARAMETER Uri
Where the installer is.
.PARAMETER Sha256
What the installer's SHA-256 must be.
.PARAMETER Signer
Who must have signed the installer: the common name in the certificate.
.PARAMETER Arguments
What the installer is called with, to run without a window.
#>
param(
    [Parameter(Mandatory)][uri] $Uri,
    [Parameter(Mandatory, ParameterSetName = 'Checksum')][string] $Sha256,
    [Parameter(Mandatory, ParameterSetName = 'Signature')][string] $Signer,
    [Parameter(Mandatory)][string[]] $Arguments
)

$ErrorActionPreference = 'Stop'
$ProgressPreference = 'SilentlyContinue'
[Net.ServicePointManager]::SecurityProtocol = [Net.SecurityProtocolType]::Tls12

$installer = Join-Path $env:TEMP $Uri.Segments[-1]
Invoke-WebRequest -UseBasicParsing -Uri $Uri -OutFile $installer

if ($Sha256) {
    $found = (Get-FileHash -Algorithm SHA256 -Path $installer).Hash
    if ($found -ne $Sha256) { throw "$Uri has the SHA-256 $found instead of $Sha256" }
} else {
    $signature = Get-AuthenticodeSignature -FilePath $installer
    $name = if ($signature.SignerCertificate) { $signature.SignerCertificate.GetNameInfo('SimpleName', $false) }
    if ($signature.Status -ne 'Valid' -or $name -ne $Signer) {
        throw "$Uri is signed by '$name' ($($signature.Status)) instead of '$Signer'"
    }
}

$process = Start-Process -FilePath $installer -ArgumentList $Arguments -Wait -PassThru
# 3010: done, and the machine wants to be started anew; a container cannot and need not be.
if ($process.ExitCode -notin 0, 3010) { throw "$Uri ended with exit code $($process.ExitCode)" }
Remove-Item -Force -Path $installer
