// What the factory needs in Azure, in one resource group: two registries, a storage account for artifacts, a key vault for
// the key that signs, one identity that builds and one that releases, and the least roles for each. The Azure ML workspace
// exists already.
// docs/azure.md tells what each role is for.

targetScope = 'resourceGroup'

@description('Where everything is made.')
param location string = resourceGroup().location

@description('Name of the staging registry: builds push, test and delete there.')
@minLength(5)
@maxLength(50)
param stagingRegistryName string

@description('Name of the production registry: releases import into it.')
@minLength(5)
@maxLength(50)
param productionRegistryName string

@description('Tier of both registries. Premium has private endpoints and agent pools for ACR Tasks.')
@allowed(['Standard', 'Premium'])
param registryTier string = 'Standard'

@description('Name of the storage account for artifacts.')
@minLength(3)
@maxLength(24)
param storageAccountName string

@description('Container for artifacts in that account.')
param artifactsContainer string = 'artifacts'

@description('Name of the key vault for the key that signs images.')
@minLength(3)
@maxLength(24)
param keyVaultName string

@description('Name of the Azure ML workspace that runs the tests; it has to exist in this resource group.')
param workspaceName string

@description('Object id of the identity with which the compute of the workspace pulls staged images.')
param computePrincipalId string

var roles = {
  acrPull: '7f951dda-4ed3-4680-a7ca-43fe172d538d'
  acrPush: '8311e382-0749-4cb8-b61a-304f252e45ec'
  acrDelete: 'c2f4ef07-c644-48eb-af81-4b1b4947fb11'
  acrTasksContributor: 'fb382eab-e894-4461-af04-94435c366c3f'
  acrImporter: '577a9874-89fd-4f24-9dbd-b5034d0ad23a'
  blobDataContributor: 'ba92f5b4-2d11-453d-a403-e96b0029c9fe'
  amlDataScientist: 'f6c7c914-8db3-469d-8ca1-694a8f32e121'
  keyVaultCryptoUser: '12338af0-0e69-4776-bea7-57ae8d297424'
  keyVaultReader: '21090545-7ca7-4776-b22c-e363652d74d2'
}

resource builder 'Microsoft.ManagedIdentity/userAssignedIdentities@2023-01-31' = {
  name: 'aml-images-builder'
  location: location
}

resource releaser 'Microsoft.ManagedIdentity/userAssignedIdentities@2023-01-31' = {
  name: 'aml-images-releaser'
  location: location
}

resource staging 'Microsoft.ContainerRegistry/registries@2023-07-01' = {
  name: stagingRegistryName
  location: location
  sku: {
    name: registryTier
  }
  properties: {
    adminUserEnabled: false
    anonymousPullEnabled: false
  }
}

resource production 'Microsoft.ContainerRegistry/registries@2023-07-01' = {
  name: productionRegistryName
  location: location
  sku: {
    name: registryTier
  }
  properties: {
    adminUserEnabled: false
    anonymousPullEnabled: false
  }
}

resource storage 'Microsoft.Storage/storageAccounts@2023-05-01' = {
  name: storageAccountName
  location: location
  kind: 'StorageV2'
  sku: {
    name: 'Standard_ZRS'
  }
  properties: {
    allowBlobPublicAccess: false
    allowSharedKeyAccess: false
    minimumTlsVersion: 'TLS1_2'
    supportsHttpsTrafficOnly: true
  }
}

resource blobs 'Microsoft.Storage/storageAccounts/blobServices@2023-05-01' = {
  parent: storage
  name: 'default'
  properties: {
    deleteRetentionPolicy: {
      enabled: true
      days: 30
    }
  }
}

resource container 'Microsoft.Storage/storageAccounts/blobServices/containers@2023-05-01' = {
  parent: blobs
  name: artifactsContainer
}

resource vault 'Microsoft.KeyVault/vaults@2023-07-01' = {
  name: keyVaultName
  location: location
  properties: {
    tenantId: subscription().tenantId
    sku: {
      family: 'A'
      name: 'standard'
    }
    enableRbacAuthorization: true
    enablePurgeProtection: true
    softDeleteRetentionInDays: 90
  }
}

resource workspace 'Microsoft.MachineLearningServices/workspaces@2024-04-01' existing = {
  name: workspaceName
}

resource builderPushes 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  name: guid(staging.id, builder.id, roles.acrPush)
  scope: staging
  properties: {
    principalId: builder.properties.principalId
    principalType: 'ServicePrincipal'
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', roles.acrPush)
  }
}

resource builderDeletes 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  name: guid(staging.id, builder.id, roles.acrDelete)
  scope: staging
  properties: {
    principalId: builder.properties.principalId
    principalType: 'ServicePrincipal'
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', roles.acrDelete)
  }
}

resource builderRunsTasks 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  name: guid(staging.id, builder.id, roles.acrTasksContributor)
  scope: staging
  properties: {
    principalId: builder.properties.principalId
    principalType: 'ServicePrincipal'
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', roles.acrTasksContributor)
  }
}

resource builderReadsProduction 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  name: guid(production.id, builder.id, roles.acrPull)
  scope: production
  properties: {
    principalId: builder.properties.principalId
    principalType: 'ServicePrincipal'
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', roles.acrPull)
  }
}

resource builderWritesArtifacts 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  name: guid(container.id, builder.id, roles.blobDataContributor)
  scope: container
  properties: {
    principalId: builder.properties.principalId
    principalType: 'ServicePrincipal'
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', roles.blobDataContributor)
  }
}

resource builderSubmitsJobs 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  name: guid(workspace.id, builder.id, roles.amlDataScientist)
  scope: workspace
  properties: {
    principalId: builder.properties.principalId
    principalType: 'ServicePrincipal'
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', roles.amlDataScientist)
  }
}

resource builderSigns 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  name: guid(vault.id, builder.id, roles.keyVaultCryptoUser)
  scope: vault
  properties: {
    principalId: builder.properties.principalId
    principalType: 'ServicePrincipal'
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', roles.keyVaultCryptoUser)
  }
}

resource builderReadsCertificate 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  name: guid(vault.id, builder.id, roles.keyVaultReader)
  scope: vault
  properties: {
    principalId: builder.properties.principalId
    principalType: 'ServicePrincipal'
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', roles.keyVaultReader)
  }
}

resource computePulls 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  name: guid(staging.id, computePrincipalId, roles.acrPull)
  scope: staging
  properties: {
    principalId: computePrincipalId
    principalType: 'ServicePrincipal'
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', roles.acrPull)
  }
}

resource releaserPulls 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  name: guid(staging.id, releaser.id, roles.acrPull)
  scope: staging
  properties: {
    principalId: releaser.properties.principalId
    principalType: 'ServicePrincipal'
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', roles.acrPull)
  }
}

resource releaserImports 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  name: guid(production.id, releaser.id, roles.acrImporter)
  scope: production
  properties: {
    principalId: releaser.properties.principalId
    principalType: 'ServicePrincipal'
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', roles.acrImporter)
  }
}

resource releaserWritesTags 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  name: guid(production.id, releaser.id, roles.acrPush)
  scope: production
  properties: {
    principalId: releaser.properties.principalId
    principalType: 'ServicePrincipal'
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', roles.acrPush)
  }
}

resource releaserWithdraws 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  name: guid(production.id, releaser.id, roles.acrDelete)
  scope: production
  properties: {
    principalId: releaser.properties.principalId
    principalType: 'ServicePrincipal'
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', roles.acrDelete)
  }
}

resource releaserWritesArtifacts 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  name: guid(container.id, releaser.id, roles.blobDataContributor)
  scope: container
  properties: {
    principalId: releaser.properties.principalId
    principalType: 'ServicePrincipal'
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', roles.blobDataContributor)
  }
}

@description('For AML_IMAGES_STAGING_REGISTRY.')
output stagingRegistry string = staging.properties.loginServer

@description('For AML_IMAGES_PRODUCTION_REGISTRY.')
output productionRegistry string = production.properties.loginServer

@description('For AML_IMAGES_AZURE__STAGING_REGISTRY_ID.')
output stagingRegistryId string = staging.id

@description('For AML_IMAGES_AZURE__PRODUCTION_REGISTRY_ID.')
output productionRegistryId string = production.id

@description('For AML_IMAGES_AZURE__STORAGE_ACCOUNT.')
output storageAccount string = storage.name

@description('For AML_IMAGES_ARTIFACTS.')
output artifacts string = 'az://${artifactsContainer}'

@description('For AML_IMAGES_TRUST__SIGNING_KEY, with certificates/NAME behind it.')
output keyVault string = vault.properties.vaultUri

@description('For AML_IMAGES_AZURE__IDENTITY_CLIENT_ID where builds run.')
output builderClientId string = builder.properties.clientId

@description('For AML_IMAGES_AZURE__IDENTITY_CLIENT_ID where releases run.')
output releaserClientId string = releaser.properties.clientId
